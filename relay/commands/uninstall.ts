// recado uninstall: says what it will remove, and removes it when told to.

import { openSession } from '../db/connect.ts';
import { type Inventory, takeInventory, uninstall } from '../install/uninstall.ts';
import type { Log } from '../log.ts';
import { commandLine } from '../package.ts';

export interface UninstallWish {
  /** Absent: only says. */
  yes?: boolean;
  withData?: boolean;
  force?: boolean;
}

/** @returns what to print. @throws RecadoError as uninstall() does */
export async function runUninstall(url: string, log: Log, wish: UninstallWish): Promise<string> {
  if (wish.yes) {
    const { withData = false, force = false } = wish;
    const stayed = await uninstall({ databaseUrl: url, log, withData, force });
    return ['Recado is removed.', ...stayed].join('\n');
  }
  const session = await openSession({ url, name: 'recado uninstall' });
  try {
    return describeInventory(await takeInventory(session));
  } finally {
    await session.end();
  }
}

function describeInventory(inventory: Inventory): string {
  const { database, schemas, events, triggers, tables, views, filled, roles, dependants, connected } =
    inventory;
  if (schemas.length === 0) return `There is no Recado in database "${database}": nothing to remove.`;
  const lines = [
    `This is what would be removed from database "${database}":`,
    ...events.map((event) => `  event ${event}`),
    ...triggers.map(({ name, on }) => `  trigger ${name} on ${on}`),
    ...views.map((view) => `  view ${view}`),
    ...tables.map((table) => `  table ${table}`),
    ...schemas.map((schema) => `  schema ${schema}`),
    ...roles.map((role) => `  role ${role}, unless another database uses it`),
  ];
  const options = ['--yes'];
  if (filled.length > 0) {
    lines.push(`With rows in it: ${filled.join(', ')}. That needs --with-data.`);
    options.push('--with-data');
  }
  if (dependants.length > 0) {
    lines.push('The application uses it:', ...dependants.map((what) => `  ${what}`));
    lines.push('Change these first, or add --force.');
  }
  if (connected.length > 0) {
    lines.push('Still connected, to be stopped first:', ...connected.map((name) => `  ${name}`));
  }
  lines.push(`Nothing was changed. To do it: ${commandLine('uninstall', ...options)}`);
  return lines.join('\n');
}
