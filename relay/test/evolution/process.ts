// A worker in a process of its own, for the tests that kill it: process.ts <database> [pace as JSON].
import pg from 'pg';
import type { Pace } from '../../evolution/pace.ts';
import { startEvolutionWorker } from '../../evolution/worker.ts';
import { createLog } from '../../log.ts';
import { WORKER } from './world.ts';

const url = process.argv[2]!;
const pool = new pg.Pool({ connectionString: url, max: 5, application_name: WORKER });
pool.on('error', () => undefined);
await startEvolutionWorker({
  pool,
  connectionString: url,
  log: createLog('debug', false),
  pace: { namespaceMs: 50, ...(JSON.parse(process.argv[3] ?? '{}') as Partial<Pace>) },
});
