// The operator's page has a row for each alert, and what the row tells to type, or to look for, exists.
import { settingsAsText } from '../../config/print.ts';
import { RESYNC_REASONS } from '../../delivery/deliveries.ts';
import { createMetrics } from '../../metrics.ts';
import { observations } from '../../observations.ts';
import { recado } from '../commands/recado.ts';
import { type Database, freshDatabase } from '../world.ts';
import { readFile } from './compose.ts';
import { RULES } from './promtool.ts';

const alerts = RULES.map(({ alert }) => alert);
const rows = new Map(
  [...readFile('docs/operator.md').matchAll(/^\| \*\*(\w+)\*\* \|(.*)\|(.*)\|$/gm)].map(
    ([, alert = '', what = '', steps = '']) => [alert, { what, steps }],
  ),
);
const codeIn = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

/** Recado's own names, and those of Postgres and the system that the page may use. */
const NAMES: readonly string[] = [
  ...Object.keys(observations),
  ...createMetrics()
    .registry.getMetricsAsArray()
    .map(({ name }) => name),
  ...settingsAsText().match(/\b[A-Z][A-Z_0-9]+\b/g)!,
  ...RESYNC_REASONS,
  ...['jwks_unavailable', 'feed_not_ready', 'internal_error', 'lock_taken', 'disk_full'],
  ...['/healthz', '/readyz', 'prometheus.yml', 'recado feed', 'max_connections', 'relay_reader'],
  ...['systemctl status recado', 'docker ps', 'ss -tnp'],
];

test('the page has a row for each alert, in the order of the rules', () => {
  expect([...rows.keys()]).toEqual(alerts);
});

test.each(alerts)('%s: its steps can be typed', async (alert) => {
  const { what, steps } = rows.get(alert)!;
  expect(codeIn(steps)).not.toEqual([]);
  for (const code of [...codeIn(what), ...codeIn(steps)]) {
    const [program, command] = code.split(' ');
    if (/^(select|delete) /.test(code)) await database.query(code.replaceAll('…', 'null'));
    else if (/^relay\.\w+$/.test(code)) await database.query(`select from ${code} limit 1`);
    else if (/^relay\.\w+\(/.test(code)) await database.query(`select ${code.replace('…', "'item'")}`);
    else if (program === 'recado' && command !== 'feed') {
      expect(await recado([command!, '--help'], {})).toMatchObject({ code: 0 });
    } else expect(NAMES).toContain(code);
  }
});
