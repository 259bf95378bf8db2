// The manifests: as the types of Kubernetes' own schema allow, which know every field, and its values.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { IDeployment } from 'kubernetes-models/apps/v1';
import { Deployment } from 'kubernetes-models/apps/v1';
import type { IJob } from 'kubernetes-models/batch/v1';
import { Job } from 'kubernetes-models/batch/v1';
import { Ingress } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { Service } from 'kubernetes-models/v1';
import { parseAllDocuments } from 'yaml';
import { settingsAsText } from '../../config/print.ts';
import { packageRoot } from '../../package.ts';
import { readFile } from './compose.ts';

type Manifest = IDeployment | IJob;
const MODELS = { Deployment, Job, Ingress, PodDisruptionBudget, Service };
const manifests = ['migrate', 'relay', 'hub', 'ingress'].flatMap((name) =>
  parseAllDocuments(readFile(`deploy/kubernetes/${name}.yaml`)).map(
    (document) => document.toJS() as { kind: keyof typeof MODELS; apiVersion: string },
  ),
);
const isWorkload = (manifest: { kind: string }) => manifest.kind === 'Deployment' || manifest.kind === 'Job';
const workloads = manifests.filter(isWorkload) as unknown as Manifest[];
const podOf = (manifest: Manifest) => manifest.spec!.template.spec!;

/** What the compiler says of them, as values of their types. */
async function compile(values: { kind: string; apiVersion: string }[]): Promise<string> {
  await mkdir(join(packageRoot, 'artifacts'), { recursive: true });
  // Beneath our package.json, so that packages are found.
  const folder = await mkdtemp(join(packageRoot, 'artifacts', 'kubernetes-'));
  try {
    const lines = values.map(({ kind, apiVersion, ...rest }, index) => {
      const value = JSON.stringify({ apiVersion, kind, ...rest });
      return `export const manifest${index}: import('kubernetes-models/${apiVersion}').I${kind} = ${value};`;
    });
    await writeFile(join(folder, 'manifests.ts'), lines.join('\n'));
    const options = { strict: true, noEmit: true, module: 'nodenext', skipLibCheck: true, types: [] };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options }));
    const tsc = join(packageRoot, 'node_modules/.bin/tsc');
    return await promisify(execFile)(tsc, ['-p', folder]).then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test('are what Kubernetes allows', async () => {
  expect(manifests.map(({ kind }) => kind)).toEqual([
    ...['Job', 'Deployment', 'Service', 'PodDisruptionBudget', 'Deployment', 'Ingress'],
  ]);
  for (const manifest of manifests) new MODELS[manifest.kind](manifest as never).validate();
  expect(() => new Deployment({ spec: { replicas: '2' } } as never).validate()).toThrow(/replicas/);
  expect(await compile(manifests)).toBe('');
  const mistyped = JSON.parse(JSON.stringify(manifests).replace('readinessProbe', 'readynessProbe'));
  expect(await compile(mistyped)).toContain('readynessProbe');
});

test('set only variables that there are, and no secret', () => {
  const known = settingsAsText();
  for (const workload of workloads) {
    const variables = podOf(workload).containers.flatMap(({ env = [] }) => env);
    for (const { name } of variables) expect(known).toContain(name);
    const secrets = variables.filter(({ name }) => /URL|SECRET|TOKEN/.test(name));
    expect(secrets.map(({ name }) => name)).toContain('DATABASE_URL');
    for (const { value } of secrets) expect(value).toBeUndefined();
  }
});

test('the hubs have probes that they answer', () => {
  const hub = workloads.map(podOf).find(({ containers }) => containers[0]!.args?.[0] === 'hub')!;
  const { livenessProbe, readinessProbe } = hub.containers[0]!;
  expect([livenessProbe?.httpGet?.path, readinessProbe?.httpGet?.path]).toEqual(['/healthz', '/readyz']);
});

test('the relay has probes that it answers, and time to end', () => {
  const relay = workloads.map(podOf).find(({ containers }) => containers[0]!.args?.[0] === 'relay')!;
  const { livenessProbe, readinessProbe, lifecycle } = relay.containers[0]!;
  expect([livenessProbe?.httpGet?.path, readinessProbe?.httpGet?.path]).toEqual(['/healthz', '/readyz']);
  const [, seconds] = lifecycle!.preStop!.exec!.command!;
  expect(relay.terminationGracePeriodSeconds).toBeGreaterThan(Number(seconds) + 10);
});

test('every pod runs as the user of the image and may change nothing', () => {
  for (const workload of workloads) {
    const { securityContext, containers } = podOf(workload);
    expect(securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1000 });
    for (const container of containers) {
      expect(container.securityContext).toMatchObject({
        ...{ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
      });
    }
  }
});
