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
      const response = await fetch(`http://127.0.0.1:${node.port}/socket.io/?EIO=4&transport=polling`, {
        headers: { origin: 'https://clinic.example' },
      });
      expect(response.status).toBe(200);
      expect(response.headers.get('access-control-allow-origin')).toBe('https://clinic.example');
      expect(response.headers.get('access-control-allow-credentials')).toBe('true');
      // And what a load balancer may go by where no cookie comes back.
      const { sid } = JSON.parse((await response.text()).slice(1)) as { sid: string };
      expect(response.headers.get('engine-session')).toBe(sid);
    } finally {
      await node.close();
    }
  },
);
