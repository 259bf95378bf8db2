#!/usr/bin/env node
// The command line: recado <command>. Each command is a few lines here; what it does has a file of its own.
import { Command } from 'commander';
import { collectDefaultMetrics } from 'prom-client';
import { parseDuration, signToken } from './auth/sign.ts';
import { FORMATS, findBreaks, findProblems, printContract } from './commands/contract.ts';
import { findSecret } from './commands/demo.ts';
import { examine } from './commands/doctor.ts';
import {
  begin,
  openDatabase,
  PERSON_WAITS_MS,
  PIPELINE_WAITS_MS,
  print,
  requireStreamUrl,
  until,
} from './commands/process.ts';
import { runSql } from './commands/sql.ts';
import { start, startEvolution } from './commands/start.ts';
import { tail } from './commands/tail.ts';
import { top } from './commands/top.ts';
import { traceEvent } from './commands/trace.ts';
import { runUninstall, type UninstallWish } from './commands/uninstall.ts';
import { settingsAsText } from './config/print.ts';
import { createPool } from './db/connect.ts';
import { errorText, RecadoError } from './errors.ts';
import { migrate, SQL_OF } from './install/migrate.ts';
import { printSql } from './install/print-sql.ts';
import { packageRoot, version } from './package.ts';
import { startHub } from './server/hub.ts';
import { isWorker, startProcesses } from './server/processes.ts';
import { startRelay } from './server/relay.ts';

const program = new Command('recado')
  .description('Realtime relay from Postgres commits to Socket.IO rooms.')
  .version(version)
  .addHelpText('after', () => `\nSettings, from the environment:\n\n${settingsAsText()}`);

program
  .command('start')
  .description(
    'everything at once: embedded Postgres if there is no DATABASE_URL, migrations, samples, relay',
  )
  .option('--demo-whatsapp', 'with an Evolution server that simulates WhatsApp, to try it without a phone')
  .action(async ({ demoWhatsapp = false }: { demoWhatsapp?: boolean }) => {
    const { settings, log } = begin('start');
    await until(log, await start(settings, log, { demoWhatsApp: demoWhatsapp }));
  });

program
  .command('relay')
  .description('the relay alone, on a migrated database')
  .action(async () => {
    const { settings, log } = begin(isWorker ? 'worker' : 'relay');
    const databaseUrl = await openDatabase(settings, log, 'recado');
    if (settings.relay.processes > 1 && !isWorker) {
      const processes = await startProcesses(databaseUrl, settings, log);
      const announce = () => log.say('relay_listening', { url: processes.url });
      await until(log, { ...processes, announce });
      return;
    }
    const jwt = await findSecret(settings);
    const relay = await startRelay({ databaseUrl, jwt, settings, log });
    collectDefaultMetrics({ register: relay.metrics.registry });
    const worker = settings.evolution.worker === 'on' ? await startEvolution(databaseUrl, log) : null;
    await until(log, {
      announce: () => isWorker || log.say('relay_listening', { url: relay.url }),
      drain: () => relay.drain(),
      async close() {
        await Promise.all([relay.close(), worker?.close()]);
      },
    });
  });

program
  .command('hub')
  .description(
    'reads the database for all relays that have STREAM_URL, and hands them the events through Redis',
  )
  .action(async () => {
    const { settings, log } = begin('hub');
    const streamUrl = requireStreamUrl(settings);
    const databaseUrl = await openDatabase(settings, log, 'recado hub');
    const hub = await startHub({ databaseUrl, streamUrl, settings, log });
    await until(log, { ...hub, announce: () => log.say('hub_listening', { url: hub.url }) });
  });

program
  .command('evolution')
  .description('the Evolution worker alone: WhatsApp chats into tables')
  .action(async () => {
    const { settings, log } = begin('evolution');
    const databaseUrl = await openDatabase(settings, log, 'recado evolution');
    await until(log, await startEvolution(databaseUrl, log));
  });

program
  .command('migrate')
  .description('installs or upgrades the relay in the database, and the packs that are installed or named')
  .option('--clinic', "with the clinic's events, on your tables of these names or on new ones")
  .option('--whatsapp', 'with WhatsApp chats from Evolution servers, in the schema evolution')
  .option(
    '--print-sql',
    'prints the SQL instead of running it, for the migration of an ORM or a test database',
  )
  .action(async (wanted: { clinic?: boolean; whatsapp?: boolean; printSql?: boolean }) => {
    const packs = (['clinic', 'whatsapp'] as const).filter((pack) => wanted[pack]);
    if (wanted.printSql) {
      print(
        await printSql(
          packageRoot,
          packs.map((pack) => ({ pack, folder: SQL_OF[pack], makesTables: true })),
        ),
      );
      return;
    }
    const { settings, log } = begin('migrate');
    const databaseUrl = await openDatabase(settings, log, 'recado migrate', {
      patienceMs: PIPELINE_WAITS_MS,
      installed: false,
    });
    const { migrations, sql } = await migrate({ databaseUrl, log, packs, onProgress: print });
    print(
      migrations.length + sql.length === 0
        ? 'Nothing to do.'
        : `${migrations.length} migrations and ${sql.length} files and events of sql/ are applied.`,
    );
  });

program
  .command('uninstall')
  .description('lists what Recado has made in the database; with --yes, removes it')
  .option('--yes', 'removes it')
  .option('--with-data', 'even if chats, messages or rows of the clinic are lost')
  .option('--force', 'even if something of the application depends on it')
  .action(async (wish: UninstallWish) => {
    const { settings, log } = begin('uninstall');
    const url = await openDatabase(settings, log, 'recado uninstall', {
      patienceMs: PERSON_WAITS_MS,
      installed: false,
    });
    print(await runUninstall(url, log, wish));
  });

program
  .command('sql')
  .description('runs a statement on the database and prints what it returns')
  .argument('[statement]', 'such as: select * from relay.check(); without it, standard input is run')
  .action(async (statement?: string) => {
    const { settings, log } = begin('sql');
    const url = await openDatabase(settings, log, 'recado sql', {
      patienceMs: PERSON_WAITS_MS,
      installed: false,
      direct: false,
    });
    const pool = createPool({ url, name: 'recado sql', log, max: 1 });
    try {
      print(await runSql(pool, statement));
    } finally {
      await pool.end();
    }
  });

program
  .command('token')
  .description('prints an access token, signed with the secret of this installation')
  .requiredOption('--account <id>', 'the account')
  .option('--expires <duration>', 'how long it is valid: 90s, 30m, 1h, 2d', '1h')
  .option('--subject <id>', 'the user, as the sub claim')
  .option('--topics <name...>', 'topics it hears, besides user:<subject>')
  .action(async (options: { account: string; expires: string; subject?: string; topics?: string[] }) => {
    const { settings } = begin('token');
    const { secret, accountClaim: claim, topicsClaim, issuer, audience } = await findSecret(settings);
    if (secret === null) {
      throw new RecadoError(
        'no_secret_to_sign_with',
        'Tokens are verified with JWT_JWKS_URL, whose private key is elsewhere: take one from the token issuer.',
      );
    }
    const { account: accountId, subject, topics = [] } = options;
    const expiresIn = parseDuration(options.expires);
    const who = { accountId, topics, ...(subject !== undefined && { subject }) };
    print(await signToken({ secret, ...who, expiresIn, claim, topicsClaim, issuer, audience }));
  });

program
  .command('tail')
  .description('prints events as they commit, of one account or of all')
  .option('--account <id>', 'only this account')
  .option('--json', 'one JSON object a line')
  .action(async (options: { account?: string; json?: boolean }) => {
    const { settings, log } = begin('tail');
    const databaseUrl = await openDatabase(settings, log, 'recado tail', { patienceMs: PERSON_WAITS_MS });
    await until(log, await tail({ databaseUrl, settings, log, ...options, print }));
  });

program
  .command('contract')
  .description(
    'prints the events of the database for people, programs and compilers; finds problems and breaking changes',
  )
  .option('--format <format>', FORMATS.join(', '), 'table')
  .option('--check', 'lists problems and their remedies; exit code 1 if there are any')
  .option(
    '--diff <file>',
    'lists changes since --format json printed this file that would break clients; exit code 1 if there are any',
  )
  .action(async (options: { format: string; check?: boolean; diff?: string }) => {
    const { settings, log } = begin('contract');
    const url = await openDatabase(settings, log, 'recado contract', {
      patienceMs: PERSON_WAITS_MS,
      direct: false,
    });
    const pool = createPool({ url, name: 'recado contract', log, max: 1 });
    try {
      const { check, diff } = options;
      const findings = [
        ...(check ? await findProblems(pool) : []),
        ...(diff === undefined ? [] : await findBreaks(pool, diff)),
      ];
      if (!check && diff === undefined) print(await printContract(pool, options.format, settings.roomPrefix));
      else if (findings.length === 0)
        print(diff === undefined ? 'No problems.' : 'No changes that break clients.');
      else process.exitCode = 1;
      for (const finding of findings) print(finding);
    } finally {
      await pool.end();
    }
  });

program
  .command('doctor')
  .description('checks settings, database, privileges, LISTEN, contract, clock and keys, and says what to do')
  .action(async () => {
    const findings = await examine(process.env);
    const marks = { ok: 'ok      ', warning: 'warning ', broken: 'BROKEN  ' };
    for (const { what, state, text } of findings) print(`${marks[state]} ${what}: ${text}`);
    if (findings.some(({ state }) => state === 'broken')) process.exitCode = 1;
  });

program
  .command('trace')
  .description('shows when an event was captured, committed and emitted, and to how many sockets')
  .argument('<id>', 'relay.events.id, as "recado tail --json" prints it')
  .option('--relay <url...>', 'the relays that are asked; the one on this machine by default')
  .action(async (id: string, options: { relay?: string[] }) => {
    const { settings, log } = begin('trace');
    const url = await openDatabase(settings, log, 'recado trace', {
      patienceMs: PERSON_WAITS_MS,
      direct: false,
    });
    const pool = createPool({ url, name: 'recado trace', log, max: 1 });
    const { operatorToken, port } = settings.http;
    try {
      print(
        await traceEvent(pool, id, {
          relays: options.relay ?? [`http://127.0.0.1:${port}`],
          operatorToken,
        }),
      );
    } finally {
      await pool.end();
    }
  });

program
  .command('top')
  .description(
    'shows how a relay is doing, every two seconds: rate, latency, gate, backlog, sockets, slowest accounts',
  )
  .option('--relay <url>', 'the relay to ask; by default the one on this machine')
  .option('--every <duration>', 'how often: 1s, 5s, 1m', '2s')
  .action(async (options: { relay?: string; every: string }) => {
    const { settings, log } = begin('top');
    const { operatorToken, port } = settings.http;
    const isTerminal = process.stdout.isTTY === true;
    await until(
      log,
      await top({
        relay: options.relay ?? `http://127.0.0.1:${port}`,
        operatorToken,
        everyMs: parseDuration(options.every) * 1_000,
        show: (picture) => print(isTerminal ? `\x1b[H\x1b[J${picture}` : `${picture}\n`),
      }),
    );
  });

try {
  await program.parseAsync();
} catch (error) {
  const code = error instanceof RecadoError ? ` (${error.code})` : '';
  process.stderr.write(`recado: ${errorText(error)}${code}\n`);
  if (!(error instanceof RecadoError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
}
// Everything is closed by now. Left to end by itself, Node 20 sometimes spins for ever while it cleans up the handles
// of pending connections. A pipe takes 64 KiB at a time, so the end of a longer output is still to be written.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit(process.exitCode ?? 0);
