// recado contract: what is printed is what the triggers send, and what clients can be built with.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Ajv } from 'ajv';
import { printContract } from '../../commands/contract.ts';
import { breaksOf, parseContract } from '../../contract/diff.ts';
import { readContract } from '../../contract/read.ts';
import { packageRoot } from '../../package.ts';
import { type Clinic, openClinic, setStatus, softDelete } from '../clinic.ts';

let clinic: Clinic;

beforeAll(async () => {
  clinic = await openClinic();
});
afterAll(() => clinic.close());

const printed = (format: string) => printContract(clinic.database.pool, format, 'orders.account.');
const contract = () => readContract(clinic.database.pool, 'orders.account.');

/** Something that makes each event of the installed contract, in this order. */
const CHANGES = [
  `insert into public.doctors (id, "accountId", name) values (50, 1, 'Dra. Lia')`,
  `update public.doctors set name = 'Dra. Lia Costa' where id = 50`,
  `update public.doctors set "isBusy" = true where id = 50`,
  softDelete,
  setStatus('CHECKIN'),
  setStatus('EM_ATENDIMENTO'),
  setStatus('FINALIZADO'),
  `insert into evolution.chats ("tenantId", "whatsappChatId") values ('1', '5581999999999@s.whatsapp.net')`,
  `update evolution.chats set "contactName" = 'Ana', "unreadCount" = 1, status = 'DELETED'`,
  `insert into evolution.messages ("chatId", "tenantId", "whatsappMessageId", direction, status, content)
     select id, '1', 'M1', 'INCOMING', 'DELIVERED', 'oi' from evolution.chats`,
  `update evolution.messages set status = 'READ'`,
  `update evolution.messages set content = 'olá', "editedAt" = now()`,
  `update evolution.messages set "deletedAt" = now()`,
  `insert into evolution.sources ("tenantId", name) values ('1', 'vendas')`,
  `update evolution.sources set synced_at = now()`,
  `insert into evolution.outgoing ("tenantId", "instanceName", "chatId", text) select '1', 'vendas', id, 'oi' from evolution.chats`,
  `update evolution.outgoing set status = 'SENDING'`,
];

describe('JSON Schema', () => {
  test('of every event of the contract fits what its trigger sends, and its own sample', async () => {
    const ajv = new Ajv({ strict: false, allErrors: true });
    ajv.addFormat(
      'date-time',
      (text: string) => /T.*(Z|[+-]\d\d:\d\d)$/.test(text) && !Number.isNaN(Date.parse(text)),
    );
    ajv.addFormat('date', /^\d{4}-\d\d-\d\d$/);
    ajv.addFormat('uuid', /^[0-9a-f-]{36}$/);
    const events = await contract();
    const heard = await clinic.heard(...CHANGES);
    for (const { event, payload } of heard) {
      const { payload: schema } = events.find((known) => known.event === event)!;
      expect({ event, payload, errors: ajv.validate(schema, payload) ? [] : ajv.errors }).toMatchObject({
        errors: [],
      });
    }
    // Those of the Evolution worker's own tables have tests of their own.
    const elsewhere = ['chat:merged', 'message:reaction', 'session:qrcode', 'session:status'];
    const made = new Set(heard.map(({ event }) => event));
    expect(
      events.map(({ event }) => event).filter((event) => !made.has(event) && !elsewhere.includes(event)),
    ).toEqual([]);
    for (const { event, payload, sample } of events) {
      expect({ event, sample, errors: ajv.validate(payload, sample) ? [] : ajv.errors }).toMatchObject({
        errors: [],
      });
    }
  });
});

describe('TypeScript', () => {
  /** What tsc says about a program that uses the printed types. */
  async function compile(program: string): Promise<string> {
    // Beneath our package.json, so that socket.io-client is found.
    await mkdir(join(packageRoot, 'artifacts'), { recursive: true });
    const folder = await mkdtemp(join(packageRoot, 'artifacts', 'contract-'));
    try {
      await writeFile(join(folder, 'events.ts'), await printed('typescript'));
      await writeFile(join(folder, 'program.ts'), program);
      const options = [
        '--noEmit',
        '--strict',
        '--ignoreConfig',
        '--skipLibCheck',
        '--exactOptionalPropertyTypes',
      ];
      const modules = [
        '--module',
        'nodenext',
        '--target',
        'es2023',
        '--types',
        'node',
        '--allowImportingTsExtensions',
      ];
      const tsc = join(packageRoot, 'node_modules/typescript/bin/tsc');
      await promisify(execFile)(process.execPath, [tsc, ...options, ...modules, join(folder, 'program.ts')]);
      return '';
    } catch (error) {
      return (error as { stdout?: string }).stdout ?? String(error);
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  const head = `
    import { io, type Socket } from 'socket.io-client';
    import type { ClientToServerEvents, ServerToClientEvents } from './events.ts';
    const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io('http://localhost');`;

  test('compiles with the stock client, payloads and positions typed', async () => {
    const said = await compile(`${head}
      socket.on('doctors.deleted', (id, position) => { const n: number = id; const p: string = position; void [n, p]; });
      socket.on('appointmnents.finished', (a) => { const name: string | undefined = a.doctor?.name; void name; });
      socket.on('relay:resync', ({ reason }) => { if (reason === 'retention') location(reason); });
      socket.on('relay:position', (position: string) => void position);
      socket.emit('auth:refresh', 'token', (answer) => { if (!answer.ok) console.log(answer.code); });
      function location(reason: 'retention') { void reason; }`);
    expect(said).toBe('');
  });

  test('refuses what the contract does not have', async () => {
    const said = await compile(`${head}
      socket.on('doctors.delted', () => {});
      socket.on('doctors.deleted', (id: string) => void id);
      socket.on('doctors.busy', ({ busy }) => void busy);`);
    expect(said.match(/error TS\d+/g)).toHaveLength(3);
  });
});

describe('--diff', () => {
  const object = (properties: object, required = Object.keys(properties)) => ({
    type: 'object',
    properties,
    required,
  });
  const text = { type: 'string' };
  const number = { type: 'number' };

  test.each<[name: string, before: object, now: object, breaks: string[]]>([
    ['nothing', object({ a: text }), object({ a: text }), []],
    ['a new field', object({ a: text }), object({ a: text, b: text }), []],
    ['a narrower type', object({ a: { type: ['string', 'null'] } }), object({ a: text }), []],
    ['an integer for a number', object({ a: number }), object({ a: { type: 'integer' } }), []],
    ['a const for a string', text, { const: 'x' }, []],
    ['a removed field', object({ a: text, b: text }), object({ a: text }), ['x: payload.b is gone.']],
    [
      'a retyped field',
      object({ a: text }),
      object({ a: number }),
      ['x: payload.a was string and is number.'],
    ],
    [
      'a field that may be null',
      object({ a: text }),
      object({ a: { type: ['string', 'null'] } }),
      ['x: payload.a was string and is string or null.'],
    ],
    [
      'a field that may be missing',
      object({ a: text }),
      object({ a: text }, []),
      ['x: payload.a may be missing now.'],
    ],
    ['anything for something', text, {}, ['x: payload was string and is anything.']],
    [
      'deep inside, in lists',
      object({ list: { type: 'array', items: object({ a: text }) } }),
      object({ list: { type: 'array', items: object({ a: number }) } }),
      ['x: payload.list[].a was string and is number.'],
    ],
    [
      'by reference, in alternatives, in parts',
      { anyOf: [{ $ref: '#/$defs/a' }], $defs: { a: object({ a: text, b: text }) } },
      { allOf: [object({ a: text })] },
      ['x: payload.b is gone.'],
    ],
    ['a list for a value', text, { type: 'array' }, ['x: payload was string and is array.']],
  ])('%s', (_name, before, now, breaks) => {
    const event = (payload: object) => [
      { event: 'x', payload: { ...payload }, audience: 'account' as const },
    ];
    expect(breaksOf(event(before), event(now))).toEqual(breaks);
  });

  test('an event that is gone; a new one is no break', () => {
    const of = (event: string) => [{ event, payload: {}, audience: 'account' as const }];
    expect(breaksOf(of('old'), of('new'))).toEqual(['old is gone.']);
  });

  test('an event that is narrowed from the account to topics; the other way round is no break', () => {
    const of = (audience: 'account' | 'topics') => [{ event: 'x', payload: {}, audience }];
    expect(breaksOf(of('account'), of('topics'))).toEqual([
      'x: everybody of the account heard it, now only those whose token has one of its topics.',
    ]);
    expect(breaksOf(of('topics'), of('account'))).toEqual([]);
    expect(breaksOf(of('topics'), of('topics'))).toEqual([]);
  });

  test('a schema that leads to itself ends', () => {
    const schema = { $ref: '#/$defs/tree', $defs: { tree: object({ next: { $ref: '#/$defs/tree' } }) } };
    const event = [{ event: 'x', payload: schema, audience: 'account' as const }];
    expect(breaksOf(event, event)).toEqual([]);
  });

  test('reads what --format json printed, and refuses what it did not', async () => {
    expect(breaksOf(parseContract(await printed('json'), 'file'), await contract())).toEqual([]);
    for (const text of ['{', '[]', '{"events": [{}]}']) {
      expect(() => parseContract(text, 'x.json')).toThrow(
        expect.objectContaining({ code: 'contract_unreadable' }),
      );
    }
  });
});

test('as a table and as Markdown, every event is in it', async () => {
  for (const format of ['table', 'markdown']) {
    const text = await printed(format);
    for (const { event } of await contract()) expect(text).toContain(event);
  }
  await expect(printed('yaml')).rejects.toMatchObject({ code: 'format_unknown' });
});

test('an audience is told in each format', async () => {
  const audience = `array['doctor:' || new.id]`;
  await clinic.writer.query(
    `select relay.publish('doctors.private', 'public.doctors', account => 'new."accountId"', audience => $$${audience}$$, description => 'For one doctor.')`,
  );
  try {
    const event = (await contract()).find(({ event }) => event === 'doctors.private')!;
    expect([event.audience, event.recorded.map((recording) => recording.audience)]).toEqual([
      'topics',
      [audience],
    ]);
    expect((await contract()).filter((other) => other.audience === 'topics')).toHaveLength(1);
    expect(parseContract(await printed('json'), 'file')).toContainEqual(
      expect.objectContaining({ event: 'doctors.private', audience: 'topics' }),
    );
    expect(await printed('table')).toContain(audience);
    expect(await printed('markdown')).toContain(`topics (\`${audience}\`)`);
    expect(await printed('typescript')).toContain('For one doctor. Sent to those whose token has one of');
    const { components } = JSON.parse(await printed('asyncapi')) as {
      components: { messages: Record<string, Record<string, unknown>> };
    };
    expect(components.messages['doctors.private']!['x-audience']).toBe('topics');
    expect(components.messages['doctors.busy']).not.toHaveProperty('x-audience');
  } finally {
    await clinic.writer.query(`select relay.unpublish('doctors.private')`);
  }
});

test('the command ends with 1 when there is something to say', async () => {
  const main = join(packageRoot, 'dist/relay/main.js');
  const file = join(tmpdir(), `recado-contract-${process.pid}.json`);
  const env = { ...process.env, DATABASE_URL: clinic.database.url, JWT_SECRET: 'x'.repeat(32) };
  const recado = () =>
    promisify(execFile)(process.execPath, [main, 'contract', '--check', '--diff', file], { env });
  await writeFile(file, await printed('json'));
  try {
    expect((await recado()).stdout).toContain('No changes that break clients.');
    await clinic.writer.query(`select relay.unpublish('doctors.busy');
      alter table public.doctors disable trigger "!doctors.created/insert"`);
    await expect(recado()).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^trigger_disabled: doctors\.created[\s\S]*doctors\.busy is gone\.\n$/),
    });
  } finally {
    await rm(file);
  }
});
