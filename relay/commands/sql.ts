// recado sql: for machines without psql.
import { text } from 'node:stream/consumers';
import type pg from 'pg';
import { errorField, errorText, RecadoError } from '../errors.ts';

/**
 * Runs a statement (or several), by default those of standard input, and renders what the last one returned.
 * @throws RecadoError `sql_failed` with what Postgres said
 */
export async function runSql(pool: pg.Pool, statement?: string): Promise<string> {
  const sql = statement ?? (await text(process.stdin));
  const answers = await pool.query({ text: sql, rowMode: 'array' }).catch((error: unknown) => {
    throw new RecadoError('sql_failed', sentenceOf(error), { cause: error });
  });
  // An array where the text has several statements, which pg's types do not say.
  const { fields, rows, command, rowCount } = [answers].flat().at(-1)!;
  const tag = [command, rowCount].filter((part) => part !== null).join(' ');
  if (fields.length === 0) return tag;
  const head = fields.map(({ name }) => name);
  return `${renderTable(
    head,
    rows.map((row) => row.map(show)),
  )}\n${tag}`;
}

function sentenceOf(error: unknown): string {
  return [errorText(error), errorField(error, 'detail'), errorField(error, 'hint')]
    .filter((part) => part !== undefined)
    .join('\n  ');
}

function show(value: unknown): string {
  if (value === null) return '';
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Columns as psql draws them. */
export function renderTable(head: string[], rows: string[][]): string {
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => ` ${cell.padEnd(widths[column]!)} `)
      .join('|')
      .trimEnd();
  return [line(head), widths.map((width) => '-'.repeat(width + 2)).join('+'), ...rows.map(line)].join('\n');
}
