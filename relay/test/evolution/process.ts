// A worker in a process of its own, for the test that kills it. The last argument is the database.
import pg from 'pg';
import { startEvolutionWorker } from '../../evolution/worker.ts';
import { createLog } from '../../log.ts';

const url = process.argv[2]!;
const pool = new pg.Pool({ connectionString: url, max: 5 });
pool.on('error', () => undefined);
await startEvolutionWorker({
  pool,
  connectionString: url,
  log: createLog('debug', false),
  pace: { namespaceMs: 50 },
});
