// recado start: a database, its migrations, sample clinics and a relay, in one process.

import { signToken } from '../auth/sign.ts';
import type { Settings } from '../config/settings.ts';
import { createPool, waitForDatabase } from '../db/connect.ts';
import { startEmbedded } from '../db/embedded.ts';
import { refusePooler } from '../db/pooler.ts';
import { RecadoError } from '../errors.ts';
import { isWhatsAppInstalled } from '../evolution/overview.ts';
import { startEvolutionWorker } from '../evolution/worker.ts';
import { migrate } from '../install/migrate.ts';
import type { Log } from '../log.ts';
import { commandLine } from '../package.ts';
import { startRelay } from '../server/relay.ts';
import { addSamples, announceDatabase, findSecret } from './demo.ts';
import type { Running } from './process.ts';

/** Starts everything; announces it by what a newcomer needs. What was started is closed again if a later part fails. */
export async function start(
  settings: Settings,
  log: Log,
  { demoWhatsApp = false }: { demoWhatsApp?: boolean } = {},
): Promise<Running> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const databaseUrl = await findOrStartDatabase(settings, log, closers);
    await waitForDatabase({ url: databaseUrl, name: 'recado', log });
    await refusePooler({ url: databaseUrl, name: 'recado' });
    const embedded = settings.database.url === null;
    // The demo is a clinic with WhatsApp. A database of somebody's own gets what is asked for with recado migrate.
    await migrate({ databaseUrl, log, packs: embedded ? ['clinic', 'whatsapp'] : [] });
    if (embedded) {
      const pool = createPool({ url: databaseUrl, name: 'recado samples', log, max: 1 });
      await addSamples(pool).finally(() => pool.end());
    }
    const jwt = await findSecret(settings);
    const relay = await startRelay({ databaseUrl, jwt, settings, demo: embedded, log });
    closers.push(() => relay.close());
    await relay.ready();
    if (demoWhatsApp) closers.push(await startWhatsApp(databaseUrl));
    const { worker } = settings.evolution;
    if (worker === 'on' || (worker === 'auto' && embedded)) {
      closers.push((await startEvolution(databaseUrl, log)).close);
    }
    const page = embedded ? await welcome(relay.url, databaseUrl, jwt) : null;
    return {
      announce() {
        if (page === null) log.say('relay_listening', { url: relay.url });
        else process.stdout.write(page);
      },
      drain: () => relay.drain(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Only when asked for: the server of the demonstration is no part of the relay. */
async function startWhatsApp(databaseUrl: string): Promise<() => Promise<void>> {
  const { startWhatsAppDemo } = await import('../evolution/demo/whatsapp.ts');
  const demo = await startWhatsAppDemo(databaseUrl);
  return () => demo.close();
}

/**
 * The worker. Without instances it only polls a table.
 * @throws RecadoError `whatsapp_not_installed`
 */
export async function startEvolution(databaseUrl: string, log: Log): Promise<Running> {
  const pool = createPool({ url: databaseUrl, name: 'recado evolution', max: 4, log });
  if (!(await isWhatsAppInstalled(pool))) {
    await pool.end();
    throw new RecadoError(
      'whatsapp_not_installed',
      `This database has no tables for WhatsApp: run "${commandLine('migrate', '--whatsapp')}" first, or set EVOLUTION_WORKER=off.`,
    );
  }
  const worker = await startEvolutionWorker({ pool, connectionString: databaseUrl, log });
  return {
    async close() {
      await worker.close();
      await pool.end();
    },
  };
}

async function findOrStartDatabase(
  { database }: Settings,
  log: Log,
  closers: (() => Promise<void>)[],
): Promise<string> {
  if (database.url !== null) return database.url;
  const postgres = await startEmbedded({ dataDir: database.dataDir, port: database.port, log });
  closers.push(() => postgres.stop());
  closers.push(await announceDatabase(database.dataDir, postgres.url));
  return postgres.url;
}

async function welcome(url: string, databaseUrl: string, jwt: Settings['jwt']): Promise<string> {
  const { secret, accountClaim: claim, topicsClaim, issuer, audience } = jwt;
  // Without its topic, a token hears of no conversation (sql/demo/attendants.sql).
  const topics = ['reception'];
  const tokens = [];
  for (const accountId of ['1', '2']) {
    if (secret === null) break;
    const expiresIn = 3_600;
    const token = await signToken({
      secret,
      accountId,
      topics,
      expiresIn,
      claim,
      topicsClaim,
      issuer,
      audience,
    });
    tokens.push(`  Token of account ${accountId}, good for one hour:\n  ${token}\n\n`);
  }
  return `
  Open ${url} in a browser.

${tokens.join('')}  Postgres is at
  ${databaseUrl}

  Make an event happen, in another terminal; "npm run tail" shows it:
  npm run sql -- 'update doctors set "deletedAt" = now() where id = 123'

`;
}
