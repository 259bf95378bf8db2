// The life of an application beside the contract; see life.ts. LIFE_STEPS and LIFE_SEEDS make it longer:
//
//   LIFE_STEPS=500 LIFE_SEEDS=1,2,3 npm test -- relay/test/life
import pg from 'pg';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { live } from './life.ts';

const steps = Number(process.env.LIFE_STEPS ?? 120);
const seeds = (process.env.LIFE_SEEDS ?? '1').split(',').map(Number);

const role = `recado_test_life_${process.pid}`;
let database: TestDatabase;

beforeEach(async () => {
  database = await createDatabase();
  await database.pool.query(`create role ${role}`);
});
afterEach(async () => {
  await database.pool.query(`drop owned by ${role} cascade; drop role ${role}`);
  await database.close();
});

test.each(seeds)(
  'seed %i: no step is silent, no statement of the application fails',
  async (seed) => {
    const connect = async () => {
      const client = new pg.Client({ connectionString: database.url });
      await client.connect();
      return client;
    };
    const life = await live({ seed, steps, connect, role });
    process.stdout.write(`${JSON.stringify({ seed, ...life, wrong: life.wrong.length })}\n`);
    expect(life.wrong).toEqual([]);
  },
  600_000,
);
