// Who hears an event inside its account, as the database records it.
import { once } from 'node:events';
import { type Clinic, openClinic } from '../clinic.ts';

let clinic: Clinic;

async function begin(): Promise<void> {
  await clinic.writer.query(`
    create table public.chats (id int primary key, account text, attendant text, team text[], code text);
    create table public.logs (id int, account text, attendant text, code text)`);
}

// One database for most of them: what an event's failures were before it is published anew, relay.check() does not tell.
beforeAll(async () => {
  clinic = await openClinic();
});
afterAll(() => clinic.close());
beforeEach(begin);
afterEach(async () => {
  await clinic.writer.query(`
    select relay.unpublish(event) from (select distinct c.event from relay.catalogue as c where c.event like 'chat.%') as e;
    drop table public.chats, public.logs;
    truncate relay.revocations`);
});

/** The test makes a role, which goes with its database. */
function inDatabaseOfItsOwn(work: () => Promise<void>): () => Promise<void> {
  return async () => {
    const shared = clinic;
    clinic = await openClinic();
    try {
      await begin();
      await work();
    } finally {
      await clinic.close();
      clinic = shared;
    }
  };
}

async function rows<Row extends Record<string, unknown>>(query: string): Promise<Row[]> {
  return (await clinic.database.pool.query<Row>(query)).rows;
}

interface Recorded {
  event: string;
  account: string | null;
  audience: string[] | null;
  payload: unknown;
}

/** Runs the statements and says what they recorded, and for whom. */
async function recorded(...statements: string[]): Promise<Recorded[]> {
  const before = await clinic.value<string>('select coalesce(max(id), 0) from relay.events');
  for (const statement of statements) await clinic.writer.query(statement);
  const found = await clinic.database.pool.query<Recorded>(
    'select event, account_id as account, audience, payload from relay.events where id > $1 order by id',
    [before],
  );
  return found.rows;
}

const publish = (args: string) => clinic.writer.query(`select relay.publish(${args})`);
const chats = (audience: string, more = '', operation = 'INSERT') =>
  publish(
    `'chat.said', 'public.chats', '${operation}', account => 'new.account', payload => 'to_jsonb(new.code)', audience => $a$${audience}$a$${more}`,
  );
const said = (audience: string[] | null, payload: unknown = 'x', account = 'a') => ({
  event: 'chat.said',
  account,
  audience,
  payload,
});
const resync = (audience: string[] | null, account: string | null = 'a') => ({
  event: 'relay:resync',
  account,
  audience,
  payload: expect.objectContaining({ event: 'chat.said', reason: 'capture_failed' }),
});
const unheard = (more = {}) => ({
  event: 'relay:unheard',
  account: '',
  audience: null,
  payload: { event: 'chat.said', table: 'public.chats', reason: 'nobody', ...more },
});
const insert = (id: number, attendant: string, team = 'null', code = "'x'") =>
  `insert into public.chats values (${id}, 'a', ${attendant}, ${team}, ${code})`;
const problems = () => rows<{ problem: string; detail: string }>('select problem, detail from relay.check()');

const LEVELS = [
  ['row', ''],
  ['commit', `, at => 'commit'`],
  ['statement', `, level => 'statement'`],
] as const;

describe.each(LEVELS)('%s level: an audience', (level, more) => {
  const counted = level === 'statement' ? { rows: 1 } : {};

  test('is recorded, sorted, without nulls and duplicates', async () => {
    await chats(`array['user:' || new.attendant] || new.team`, more);
    expect(
      await recorded(insert(1, "'ana'"), insert(2, "'bia'", "array['b', null, 'a', 'b', 'user:bia']")),
    ).toEqual([said(['user:ana']), said(['a', 'b', 'user:bia'])]);
  });

  test('that is null or has no topic is nobody, and is counted', async () => {
    await chats(`array['user:' || new.attendant]`, more);
    expect(await recorded(insert(1, 'null'))).toEqual([unheard(counted)]);
    await chats('new.team', more);
    expect(await recorded(insert(2, 'null'), insert(3, 'null', "'{}'"))).toEqual([
      unheard(counted),
      unheard(counted),
    ]);
    await chats('(select array_agg(t) from unnest(new.team) as t)', more);
    expect(await recorded(insert(4, 'null', "'{}'"))).toEqual([unheard(counted)]);
    expect(await problems()).toEqual([
      { problem: 'audience_empty', detail: expect.stringContaining('1 times the audience was nobody') },
    ]);
  });

  test('of nobody costs no payload', async () => {
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(1 / (new.id - 1))', audience => 'new.team'${more}`,
    );
    expect(await recorded(insert(1, 'null'))).toEqual([unheard(counted)]);
  });

  test('with the topic * is everybody', async () => {
    await chats('new.team', more);
    expect(
      await recorded(insert(1, 'null', "array['*']"), insert(2, 'null', "array['user:ana', '*']")),
    ).toEqual([said(null), said(null)]);
  });

  test('of uuids or numbers is their text', async () => {
    await chats('array[new.id]', more);
    expect(await recorded(insert(7, 'null'))).toEqual([said(['7'])]);
    await chats(`array[md5(new.code)::uuid]`, more);
    expect(await recorded(insert(8, 'null'))).toEqual([said(['9dd4e461-268c-8034-f5c8-564e155c67a6'])]);
  });

  test('of a hundred topics is recorded, a larger one becomes a resync for the account', async () => {
    await chats('new.team', more);
    const many = (n: number) => `array(select 'u' || n from generate_series(1, ${n}) as n)`;
    const [hundred, larger, longer, long] = await recorded(
      insert(1, 'null', many(100)),
      insert(2, 'null', many(101)),
      insert(3, 'null', "array['a', repeat('x', 129)]"),
      insert(4, 'null', "array[repeat('x', 128)]"),
    );
    expect(hundred!.audience).toHaveLength(100);
    expect([larger, longer]).toEqual([resync(null), resync(null)]);
    expect(long).toEqual(said(['x'.repeat(128)]));
  });

  test('that is known when the payload fails is that of the resync', async () => {
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code::int)', audience => $$array['user:' || new.attendant]$$${more}`,
    );
    expect(
      await recorded(insert(1, "'ana'"), insert(2, "'ana'", 'null', "'7'"), insert(3, 'null', 'null')),
    ).toEqual([resync(['user:ana']), said(['user:ana'], 7), unheard(counted)]);
    expect((await problems()).map(({ problem }) => problem)).toEqual(['captures_failed', 'audience_empty']);
  });

  test('that fails itself becomes a resync for the account', async () => {
    await chats(`array['team:' || new.code::int]`, more);
    expect(await recorded(insert(1, "'ana'"), insert(2, "'ana'", 'null', "'7'"))).toEqual([
      resync(null),
      said(['team:7'], '7'),
    ]);
  });

  test('is not looked at where there is no account, or no match', async () => {
    await chats(`array['team:' || new.code::int]`, `${more}, condition => 'new.id < 9'`);
    expect(
      await recorded(
        `insert into public.chats values (1, null, 'ana', null, 'x')`,
        `insert into public.chats values (9, 'a', 'ana', null, 'x')`,
      ),
    ).toEqual([]);
  });

  test('of a deleted row is that of the old one', async () => {
    await publish(
      `'chat.said', 'public.chats', 'DELETE', account => 'old.account', payload => 'to_jsonb(old.code)', audience => $$array['user:' || old.attendant]$$${more}`,
    );
    await clinic.writer.query(insert(1, "'ana'"));
    expect(await recorded('delete from public.chats')).toEqual([said(['user:ana'])]);
  });

  test('stays by republish and resume, and when a later call leaves it out; an empty one removes it', async () => {
    await chats(`array['user:' || new.attendant]`, more);
    await clinic.writer.query(`select relay.suspend('chat.said'), relay.resume('chat.said')`);
    await clinic.writer.query(`drop function relay_capture."chat.said/insert"() cascade`);
    await clinic.writer.query(`select relay.republish('chat.said')`);
    expect(await recorded(insert(1, "'ana'"))).toEqual([said(['user:ana'])]);
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code::text)'${more}`,
    );
    expect(await recorded(insert(4, "'ana'"))).toEqual([said(['user:ana'])]);
    await chats('', more);
    expect(await recorded(insert(2, "'ana'"))).toEqual([said(null)]);
    const [{ call }] = (await rows<{ call: string }>(
      `select call from relay.contract where event = 'chat.said'`,
    )) as [{ call: string }];
    expect(call).not.toContain('audience');
    await chats(`array['user:' || new.attendant]`, more);
    const [row] = await rows<{ call: string; audience: string }>(
      `select call, audience from relay.contract where event = 'chat.said'`,
    );
    expect(row!.audience).toBe(`array['user:' || new.attendant]`);
    // What the contract prints makes the same event.
    await clinic.writer.query(`select relay.unpublish('chat.said')`);
    await clinic.writer.query(row!.call);
    expect(await recorded(insert(3, "'ana'"))).toEqual([said(['user:ana'])]);
    expect(await problems()).toEqual([]);
  });

  test('is unchanged by the same call', async () => {
    await chats(`array['user:' || new.attendant]`, more);
    const call = `select relay.publish('chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code)', audience => $$array['user:' || new.attendant]$$${more})`;
    expect(await clinic.value(call)).toBe('unchanged');
    expect(await clinic.value(call.replace('user:', 'u:'))).toBe('replaced');
  });
});

describe.each(LEVELS)('%s level: several accounts', (level, more) => {
  /** The accounts are the chat's `team`. */
  const shared = (rest = '') =>
    publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'new.team', payload => 'to_jsonb(new.code)'${more}${rest}`,
    );

  test('get an event each, once', async () => {
    await shared();
    const [row] = await rows<{ room: string; account: string }>(
      `select room, account from relay.contract where event = 'chat.said'`,
    );
    expect(row).toEqual({ room: 'orders.account.{team}', account: 'new.team' });
    expect(
      await recorded(
        insert(1, 'null', "array['b', 'a', null, 'b']"),
        insert(2, 'null', "'{}'"),
        insert(3, 'null'),
        insert(4, 'null', 'array[null]::text[]'),
      ),
    ).toEqual([said(null, 'x', 'a'), said(null, 'x', 'b')]);
    expect(await problems()).toEqual([]);
  });

  test('have the same audience', async () => {
    await shared(`, audience => $$array['user:' || new.attendant]$$`);
    expect(await recorded(insert(1, "'ana'", "array['a', 'b']"))).toEqual([
      said(['user:ana'], 'x', 'a'),
      said(['user:ana'], 'x', 'b'),
    ]);
    const heard = await recorded(insert(2, 'null', "array['a', 'b']"));
    expect(heard).toEqual(level === 'statement' ? [unheard({ rows: 2 })] : [unheard(), unheard()]);
  });

  test('are told to refetch when the payload fails, or one of them has too long a name', async () => {
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'new.team', payload => 'to_jsonb(new.code::int)', audience => $$array['user:' || new.attendant]$$${more}`,
    );
    expect(await recorded(insert(1, "'ana'", "array['a', 'b']"))).toEqual([
      resync(['user:ana'], 'a'),
      resync(['user:ana'], 'b'),
    ]);
    await shared(`, audience => ''`);
    const long = await recorded(insert(2, 'null', "array['a', repeat('x', 300)]"));
    expect(long).toEqual([resync(null, 'a'), resync(null, 'x'.repeat(257))]);
  });

  test('that cannot be told from the row are all', async () => {
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'array[(new.code::int)::text]', payload => 'to_jsonb(new.id)'${more}`,
    );
    expect(await recorded(insert(1, 'null'), insert(2, 'null', 'null', "'7'"))).toEqual([
      resync(null, null),
      said(null, 2, '7'),
    ]);
  });

  test('may be numbers', async () => {
    await publish(
      `'chat.said', 'public.chats', 'INSERT', account => 'array[new.id, new.id + 1]', payload => 'to_jsonb(new.id)'${more}`,
    );
    expect(await recorded(insert(1, 'null'))).toEqual([said(null, 1, '1'), said(null, 1, '2')]);
  });
});

test('several accounts: a session that has fired the trigger before a column was retyped goes on', async () => {
  await publish(
    `'chat.said', 'public.chats', 'INSERT', account => 'array[new.code, new.account]', payload => 'to_jsonb(new.code::int)'`,
  );
  expect(await recorded(insert(1, 'null', 'null', "'7'"))).toEqual([said(null, 7, '7'), said(null, 7, 'a')]);
  await clinic.database.pool.query('alter table public.chats alter code type varchar(9)');
  expect(await recorded(insert(2, 'null', 'null', "'8'"), insert(3, 'null', 'null', "'oops'"))).toEqual([
    said(null, 8, '8'),
    said(null, 8, 'a'),
    resync(null, 'a'),
    resync(null, 'oops'),
  ]);
});

test('accounts that are looked up and gone are counted', async () => {
  await publish(
    `'chat.said', 'public.chats', 'DELETE', account => '(select array_agg(l.account) from public.logs as l where l.id = old.id)', payload => 'to_jsonb(old.id)'`,
  );
  await clinic.writer.query(insert(1, 'null'));
  const gone = { event: 'chat.said', table: 'public.chats', reason: 'unheard' };
  expect(await recorded('delete from public.chats')).toEqual([
    { event: 'relay:unheard', account: '', audience: null, payload: gone },
  ]);
});

test('relay.preview() shows an event for each account', async () => {
  await publish(`'chat.said', 'public.chats', 'INSERT', account => 'new.team'`);
  await clinic.writer.query(
    `insert into public.chats values (1, 'a', null, array['b', 'a'], 'x'), (2, 'a', null, null, 'x')`,
  );
  expect(
    await rows(
      `select p.fires, p.account from public.chats as c, relay.preview('chat.said', c) as p order by c.id`,
    ),
  ).toEqual([
    { fires: true, account: 'a' },
    { fires: true, account: 'b' },
    { fires: false, account: null },
  ]);
});

test('an account that has become an array is found by relay.check(), and publishing it again mends it', async () => {
  await publish(
    `'chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.id)'`,
  );
  await clinic.writer.query('alter table public.chats alter account type text[] using array[account]');
  expect(await problems()).toMatchObject([
    { problem: 'expression_broken', detail: 'it gives an array now, in: new.account' },
  ]);
  await clinic.writer.query(`select relay.republish('chat.said')`);
  expect(await problems()).toEqual([]);
  expect(await recorded(`insert into public.chats values (1, array['a', 'b'])`)).toHaveLength(2);
  // And back.
  await clinic.writer.query('alter table public.chats alter account type text using account[1]');
  expect(await problems()).toMatchObject([{ problem: 'expression_broken' }]);
  await clinic.writer.query(`select relay.republish('chat.said')`);
  expect(await recorded(`insert into public.chats values (2, 'a')`)).toEqual([said(null, 2)]);
});

test('a conversation that is handed over is two events, and neither says too much', async () => {
  await publish(`'chat.released', 'public.chats', 'UPDATE', account => 'old.account', payload => 'to_jsonb(old.id)',
    condition => 'old.attendant is distinct from new.attendant and old.attendant is not null', audience => $$array['user:' || old.attendant]$$`);
  await publish(`'chat.assigned', 'public.chats', 'UPDATE', account => 'new.account', payload => 'to_jsonb(new)',
    condition => 'old.attendant is distinct from new.attendant and new.attendant is not null', audience => $$array['user:' || new.attendant]$$`);
  await clinic.writer.query(insert(1, "'ana'", 'null', "'secret'"));
  expect(await recorded(`update public.chats set attendant = 'bia'`)).toEqual([
    {
      event: 'chat.assigned',
      account: 'a',
      audience: ['user:bia'],
      payload: expect.objectContaining({ code: 'secret' }),
    },
    { event: 'chat.released', account: 'a', audience: ['user:ana'], payload: 1 },
  ]);
});

test('statement level: each row has its own audience, and those of nobody are counted together', async () => {
  await chats('new.team', `, level => 'statement'`);
  const many = await recorded(
    `insert into public.chats values (1, 'a', null, array['x', 'y'], '1'), (2, 'b', null, array['z'], '2'), (3, 'a', null, null, '3'),
       (4, 'a', null, '{}', '4'), (5, 'a', null, array['*'], '5')`,
  );
  expect(many).toEqual([said(['x', 'y'], '1'), said(['z'], '2', 'b'), said(null, '5'), unheard({ rows: 2 })]);
  expect(await problems()).toEqual([
    { problem: 'audience_empty', detail: expect.stringContaining('2 times') },
  ]);
});

test('statement level: a payload that fails is a resync for each audience, whatever else was in the statement', async () => {
  await publish(
    `'chat.said', 'public.chats', 'INSERT', level => 'statement', account => 'new.account', payload => 'to_jsonb(new.code::int)', audience => 'new.team', condition => 'new.id < 9'`,
  );
  const many = await recorded(
    `insert into public.chats values (1, 'a', null, array['x'], 'oops'), (2, 'a', null, array['x'], '2'), (3, 'b', null, array['y'], '3'),
       (4, 'c', null, null, '4'), (5, 'd', null, array['*'], '5'), (9, 'e', null, array['z'], '9')`,
  );
  expect(many).toHaveLength(3);
  expect(many).toEqual(expect.arrayContaining([resync(['x'], 'a'), resync(['y'], 'b'), resync(null, 'd')]));
});

test('a session that has fired the trigger before a column was retyped goes on, with the audience', async () => {
  await publish(
    `'chat.said', 'public.chats', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code::int)', audience => $$array['team:' || new.code, 'user:' || new.attendant]$$`,
  );
  expect(await recorded(insert(1, "'ana'", 'null', "'7'"))).toEqual([said(['team:7', 'user:ana'], 7)]);
  await clinic.database.pool.query('alter table public.chats alter code type varchar(9)');
  await clinic.database.pool.query('alter table public.chats alter attendant type varchar(9)');
  expect(
    await recorded(
      insert(2, "'ana'", 'null', "'8'"),
      insert(3, "'ana'", 'null', "'oops'"),
      insert(4, 'null', 'null', 'null'),
    ),
  ).toEqual([said(['team:8', 'user:ana'], 8), resync(['team:oops', 'user:ana']), unheard()]);
});

test('of several tables, each has its own; one without is warned of', async () => {
  await chats(`array['user:' || new.attendant]`);
  const warning = once(clinic.writer, 'notice') as Promise<[{ message: string }]>;
  const notices: string[] = [];
  clinic.writer.on('notice', ({ message }) => notices.push(message ?? ''));
  await publish(
    `'chat.said', 'public.logs', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code)'`,
  );
  await warning;
  expect(notices.join()).toContain('everybody of the account hears the event, elsewhere it has an audience');
  await publish(
    `'chat.said', 'public.logs', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code)', audience => $$array['log:' || new.id]$$`,
  );
  expect(await recorded(insert(1, "'ana'"), `insert into public.logs values (3, 'a', 'ana', 'x')`)).toEqual([
    said(['user:ana']),
    said(['log:3']),
  ]);
});

test.each([
  [`'user:' || new.attendant`, 'array_ndims(text) does not exist'],
  [`'{a}'`, 'could not determine polymorphic type'],
  ['null', 'could not determine polymorphic type'],
  ['array[old.attendant]', 'old'],
  ['array[new.attendants]', 'attendants does not exist'],
  [`array['a']) or (true`, 'argument of OR'],
])('%s is no audience', async (audience, sentence) => {
  const error = await chats(audience).then(
    () => null,
    (caught: Error & { hint: string }) => caught,
  );
  expect(error!.message).toContain('relay.publish(audience => ...)');
  expect(error!.message).toContain(sentence);
  expect(error!.hint).toContain('gives an array of topics');
});

test('a column that an audience names and that is gone is found by relay.check()', async () => {
  await chats(`array['user:' || new.attendant]`);
  await clinic.writer.query('alter table public.chats rename attendant to nurse');
  expect(await problems()).toMatchObject([
    { problem: 'expression_broken', detail: expect.stringContaining('attendant') },
  ]);
});

test('without an audience the generated function is what it was', async () => {
  const names = await rows(
    `select p.proname from pg_proc as p where p.pronamespace = 'relay_capture'::regnamespace and p.prosrc ~ 'audience|topic|nobody'`,
  );
  expect(names).toEqual([]);
});

test('relay.preview() shows who would hear it', async () => {
  await chats('new.team');
  await clinic.writer.query(
    `insert into public.chats values (1, 'a', null, array['y', 'x', 'y'], 'x'), (2, 'a', null, null, 'x'), (3, 'a', null, array['*'], 'x')`,
  );
  expect(
    await rows(
      `select p.fires, p.account, p.audience from public.chats as c, relay.preview('chat.said', c) as p order by c.id`,
    ),
  ).toEqual([
    { fires: true, account: 'a', audience: ['x', 'y'] },
    { fires: false, account: 'a', audience: [] },
    { fires: true, account: 'a', audience: null },
  ]);
});

test(
  'a published audience is signed, and what captures may write it',
  inDatabaseOfItsOwn(async () => {
    const role = await clinic.writeAs(
      (r) => `grant relay_admin to ${r}; alter table public.chats owner to ${r}`,
    );
    await chats(`array['user:' || new.attendant]`);
    expect(await recorded(insert(1, "'ana'"))).toEqual([said(['user:ana'])]);
    expect(await clinic.value(`select published_by from relay.catalogue where event = 'chat.said'`)).toBe(
      role,
    );
    await clinic.database.pool.query(`revoke insert (audience) on relay.events from ${role}`);
    expect((await problems()).map(({ problem }) => problem)).toContain('capture_privileges');
  }),
);

test('WhatsApp: the messages of a conversation are heard by its attendant, those of nobody yet by the reception', async () => {
  const { writer } = clinic;
  await writer.query(
    `create table public.attendances ("chatId" bigint primary key, "tenantId" text, attendant text)`,
  );
  const call = await clinic.value<string>(`select call from relay.contract where event = 'chat:message'`);
  const audience = `audience => $$coalesce((select array['user:' || a.attendant] from public.attendances as a where a."chatId" = new."chatId"), array['reception'])$$`;
  await writer.query(call.replace(/\);$/, () => `,\n${audience});`));
  const [{ id }] = (await rows<{ id: string }>(
    `insert into evolution.chats ("tenantId", "whatsappChatId") values ('1', '5581999999999') returning id`,
  )) as [{ id: string }];
  const message = (n: number) =>
    `insert into evolution.messages ("chatId", "tenantId", "whatsappMessageId", direction) values (${id}, '1', 'M${n}', 'INCOMING')`;
  const audiences = (
    await recorded(message(1), `insert into public.attendances values (${id}, '1', 'ana')`, message(2))
  )
    .filter(({ event }) => event === 'chat:message')
    .map((event) => event.audience);
  expect(audiences).toEqual([['reception'], ['user:ana']]);
  // An upgrade of the pack makes the call that it always made.
  await writer.query(call);
  expect((await recorded(message(3))).find(({ event }) => event === 'chat:message')!.audience).toEqual([
    'user:ana',
  ]);
  await writer.query(call.replace(/\);$/, `,\naudience => '');`));
  expect((await recorded(message(4))).find(({ event }) => event === 'chat:message')!.audience).toBeNull();
  await writer.query('drop table public.attendances');
});

describe('relay.emit()', () => {
  const emit = (args: string) => `select relay.emit('a', 'chat.said', '"x"'${args})`;

  beforeEach(() => publish(`'chat.said'`));

  test('has an audience, or none', async () => {
    expect(
      await recorded(
        emit(''),
        emit(`, array['desk', null, 'ana', 'desk']`),
        emit(`, array['*']`),
        `select relay.emit('a', 'chat.said')`,
      ),
    ).toEqual([said(null), said(['ana', 'desk']), said(null), said(null, null)]);
  });

  test('for nobody is counted', async () => {
    const nobody = unheard();
    delete (nobody.payload as { table?: string }).table;
    expect(await recorded(emit(', null'), emit(`, '{}'`))).toEqual([nobody, nobody]);
    expect(await problems()).toEqual([
      { problem: 'audience_empty', detail: expect.stringContaining('2 times') },
    ]);
  });

  test('refuses a larger audience', async () => {
    await expect(
      clinic.writer.query(emit(', array(select n::text from generate_series(1, 101) as n)')),
    ).rejects.toThrow('received 101 topics');
    await expect(clinic.writer.query(emit(", array[repeat('x', 129)]"))).rejects.toThrow('of 129 bytes');
  });

  test(
    'may be called with one by whom was let in before there were any',
    inDatabaseOfItsOwn(async () => {
      await publish(`'chat.said'`);
      await clinic.writeAs(
        (r) =>
          `grant usage on schema relay to ${r}; grant execute on function relay.emit(text, text, jsonb) to ${r}`,
      );
      await expect(clinic.writer.query(emit(`, array['x']`))).rejects.toThrow('permission denied');
      await clinic.database.pool.query('select relay.secure()');
      expect(await recorded(emit(`, array['x']`))).toEqual([said(['x'])]);
    }),
  );

  test('of an event that is published without a table takes no expression', async () => {
    await expect(publish(`'chat.other', audience => $$array['x']$$`)).rejects.toThrow(
      'condition, account, payload, audience and key belong to a trigger',
    );
  });
});

test('relay.forget() forgets who heard it, too', async () => {
  await publish(`'chat.said'`);
  await clinic.writer.query(`select relay.emit('a', 'chat.said', '"x"', array['user:ana'])`);
  await clinic.database.pool.query(`select relay.forget('a')`);
  expect(await rows(`select from relay.events where account_id = 'a' and audience is not null`)).toEqual([]);
});

describe('relay.revoke_topic()', () => {
  const revoke = (args: string) => clinic.database.pool.query(`select relay.revoke_topic(${args})`);

  test('leaves a row for the relays, and makes them read it', async () => {
    await revoke(`'1', 'desk', before => '2030-01-01'`);
    await revoke(`'1', topic => 'chat:7', subject => 'ana', before => null`);
    expect(
      await rows(
        `select account_id, subject, token_id, topic, before between now() - interval '1 minute' and now() as now
           from relay.revocations order by id`,
      ),
    ).toEqual([
      { account_id: '1', subject: null, token_id: null, topic: 'desk', now: false },
      { account_id: '1', subject: 'ana', token_id: null, topic: 'chat:7', now: true },
    ]);
    const told = { account_id: '1', event: 'relay:revoke', payload: null, audience: null };
    expect(
      await rows(
        `select account_id, event, payload, audience from relay.events where event = 'relay:revoke' order by id`,
      ),
    ).toEqual([told, told]);
  });

  test.each([
    [`null, 'desk'`, 'account: received null'],
    [`'1', null`, 'topic: received null'],
    [`'1', ''`, "topic: received ''"],
    [`'1', '*'`, "topic: received '*'"],
    [`'1', repeat('x', 129)`, 'of at most 128 bytes'],
  ])('refuses %s', async (args, sentence) => {
    await expect(revoke(args)).rejects.toThrow(sentence);
    expect(await rows('select from relay.revocations')).toEqual([]);
  });
});
