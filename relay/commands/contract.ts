// recado contract: the contract of the database, in the form somebody needs it.
import { readFile } from 'node:fs/promises';
import type pg from 'pg';
import { toAsyncApi } from '../contract/asyncapi.ts';
import { breaksOf, parseContract } from '../contract/diff.ts';
import { toMarkdown } from '../contract/markdown.ts';
import { type ContractEvent, readContract } from '../contract/read.ts';
import { toTypeScript } from '../contract/typescript.ts';
import { RecadoError } from '../errors.ts';
import { version } from '../package.ts';
import { renderTable } from './sql.ts';

type Render = (contract: readonly ContractEvent[], roomPrefix: string) => string;

const formats: Record<string, Render> = {
  table: toTable,
  json: (events) => json({ recado: version, events }),
  asyncapi: (events, roomPrefix) => json(toAsyncApi(events, roomPrefix)),
  typescript: toTypeScript,
  markdown: toMarkdown,
};

export const FORMATS = Object.keys(formats);

/** @throws RecadoError `format_unknown` */
export async function printContract(pool: pg.Pool, format: string, roomPrefix: string): Promise<string> {
  const render = Object.hasOwn(formats, format) ? formats[format] : undefined;
  if (!render) {
    throw new RecadoError(
      'format_unknown',
      `There is no format "${format}": choose one of ${FORMATS.join(', ')}.`,
    );
  }
  return render(await readContract(pool, roomPrefix), roomPrefix).trimEnd();
}

interface CheckRow {
  problem: string;
  event: string | null;
  object: string | null;
  detail: string;
  remedy: string;
}

/** What relay.check() finds, a paragraph each; empty when all is well. */
export async function findProblems(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<CheckRow>('select * from relay.check()');
  return rows.map(({ problem, event, object, detail, remedy }) => {
    const about = [event, object].filter((part) => part !== null).join(', ');
    return `${problem}: ${about}\n  ${detail}\n  ${remedy}`;
  });
}

/**
 * What has changed since a file was printed that would break clients; empty when nothing has.
 * @throws RecadoError `contract_unreadable`
 */
export async function findBreaks(pool: pg.Pool, file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new RecadoError(
      'contract_unreadable',
      `${file} cannot be read (${error.code}): give a file that "recado contract --format json" has printed.`,
    );
  });
  return breaksOf(parseContract(text, file), await readContract(pool, ''));
}

function toTable(events: readonly ContractEvent[]): string {
  const rows = events.flatMap(({ event, recorded, room, description }) =>
    recorded.map(({ table, when, audience, enabled }, index) => [
      index === 0 ? event : '',
      table ?? '',
      shortened(when),
      enabled ? 'yes' : 'NO',
      index === 0 ? room : '',
      shortened(audience ?? ''),
      index === 0 ? shortened(description ?? '') : '',
    ]),
  );
  return renderTable(['event', 'table', 'recorded', 'enabled', 'room', 'audience', 'description'], rows);
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}
