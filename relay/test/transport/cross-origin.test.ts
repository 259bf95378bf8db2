// A page of another origin behind a load balancer: its cookie is sent only where credentials are allowed.
import { type Database, freshDatabase, startNode } from '../world.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

test.each(['https://clinic.example', '*'])(
  'with CORS_ORIGIN=%s a page may send credentials',
  async (setting) => {
    const node = await startNode(database.url, { CORS_ORIGIN: setting });
    try {
      const origin = 'https://clinic.example';
      const preflight = { origin, 'access-control-request-method': 'GET' };
      const url = `http://127.0.0.1:${node.port}`;
      const begun = await fetch(`${url}/socket.io/?EIO=4&transport=polling`, { headers: { origin } });
      for (const [response, status] of [
        [begun, 200],
        [await fetch(`${url}/socket.io/`, { method: 'OPTIONS', headers: preflight }), 204],
        [await fetch(`${url}/events`, { method: 'OPTIONS', headers: preflight }), 204],
        // Refused for want of a token, which the page must be able to read.
        [await fetch(`${url}/events`, { headers: { origin } }), 401],
      ] as const) {
        expect([response.url, response.status]).toEqual([response.url, status]);
        expect(response.headers.get('access-control-allow-origin')).toBe(origin);
        expect(response.headers.get('access-control-allow-credentials')).toBe('true');
      }
      // And what a load balancer may go by where no cookie comes back.
      const { sid } = JSON.parse((await begun.text()).slice(1)) as { sid: string };
      expect(begun.headers.get('engine-session')).toBe(sid);
    } finally {
      await node.close();
    }
  },
);
