// Clients that did not read: logged at once, remembered for a while, and added up over several processes.
import { SlowClients, slowestClients } from '../../delivery/slow-clients.ts';
import { createMetrics } from '../../metrics.ts';
import { hearing } from '../hearing.ts';

const HOUR = 60 * 60_000;
const said: string[] = [];
const open = () =>
  new SlowClients(
    hearing((name, fields) => said.push(`${name} ${fields}`)),
    createMetrics(),
  );
const shop = { account: 'shop', address: '10.0.0.7', bytes: 9_000_000 };

test('each is logged, and counted by account and address until an hour has passed', () => {
  const clients = open();
  clients.note({ ...shop, socket: 'a' });
  clients.note({ ...shop, bytes: 8_500_000 });
  clients.note({ ...shop, account: null });
  expect(said[0]).toBe(
    'socket_too_slow {"account":"shop","address":"10.0.0.7","bytes":9000000,"socket":"a"}',
  );
  expect(said).toHaveLength(3);
  const now = Date.now();
  expect(clients.recent(now)).toMatchObject([
    { ...shop, bytes: 8_500_000, times: 2 },
    { ...shop, account: null, times: 1 },
  ]);
  expect(clients.recent(now + HOUR + 1_000)).toEqual([]);
});

test('no more than a hundred, the newest', () => {
  const clients = open();
  for (let n = 1; n <= 101; n += 1) clients.note({ ...shop, address: `10.0.0.${n}` });
  const addresses = clients.recent(Date.now()).map(({ address }) => address);
  expect(addresses).toHaveLength(100);
  expect(addresses).not.toContain('10.0.0.1');
});

test('what several processes remember is added up', () => {
  const [early, late] = [
    { ...shop, times: 2, lastAt: 1 },
    { ...shop, times: 3, lastAt: 2, bytes: 1 },
  ];
  const other = { ...shop, account: 'other', times: 4, lastAt: 3 };
  expect(slowestClients([late, other, early])).toEqual([{ ...late, times: 5 }, other]);
});
