// An audience as relay.publish() takes it, and as the contract, relay.check() and relay.preview() show it.
import { once } from 'node:events';
import {
  chats,
  clinic,
  inDatabaseOfItsOwn,
  insert,
  problems,
  publish,
  recorded,
  rows,
  said,
} from './chats.ts';

test('each table of an event has its own audience, and publish() warns of one without', async () => {
  await chats(`array['user:' || new.attendant]`);
  const warning = once(clinic.writer, 'notice') as Promise<[{ message: string }]>;
  const notices: string[] = [];
  clinic.writer.on('notice', ({ message }) => notices.push(message ?? ''));
  await publish(
    `'chat.said', 'public.logs', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code)'`,
  );
  await warning;
  expect(notices.join()).toContain(
    'everybody of the account hears the event; in its other calls it has an audience',
  );
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

test('without an audience the generated functions have no code for one', async () => {
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
  'a published audience is signed, and check() finds a role that may not write it',
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
