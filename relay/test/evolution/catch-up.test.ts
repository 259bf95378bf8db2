// What the worker reads over REST: what it missed, what is old, and in which order it is told.
import { addFake, connect, contents, insert, lines, server, stores, until, world } from './one-worker.ts';
import { eventsOf } from './world.ts';

test('what was missed comes before what is heard meanwhile, chat by chat, also over many pages', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  const seconds = Math.floor(Date.now() / 1_000) - 1_000;
  const jid = (n: number) => `551199977000${n % 5}@s.whatsapp.net`;
  fake.message({ text: '0', jid: jid(0), messageTimestamp: seconds });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.down();
  for (let n = 1; n <= 300; n++)
    fake.message({ text: String(n), jid: jid(n), messageTimestamp: seconds + n }, true);
  await evolution.up();
  let n = 300;
  // Heard while the pages are read, which takes longer than a few of these.
  while ((await contents(fake)).length < 301 || n < 350) {
    n += 1;
    fake.message({ text: String(n), jid: jid(n), messageTimestamp: seconds + n });
    await new Promise(setImmediate);
  }
  await until(
    () => contents(fake),
    (c) => c.length === n + 1,
  );
  const told = (await eventsOf(world, `t-${fake.name}`))
    .filter((e) => e.event === 'chat:message')
    .map((e) => ({ chat: e.payload.chatId, n: Number((e.payload.message as { content: string }).content) }));
  const late = told.filter(({ chat, n }, place) =>
    told.slice(0, place).some((before) => before.chat === chat && before.n > n),
  );
  expect(late).toEqual([]);
  expect(told).toHaveLength(n + 1);
  const counted = lines.map((line) => Number(/^evolution_reading.*"of":(\d+)/.exec(line)?.[1] ?? 0));
  expect(Math.max(...counted)).toBeGreaterThanOrEqual(300);
});

test('history that reached the server while nobody listened is read, however old it is', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'today' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.down();
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  for (let n = 0; n < 5; n++) fake.message({ text: `old ${n}`, messageTimestamp: tenDaysAgo + n }, true);
  await evolution.up();
  // Makes the namespace.
  fake.message({ text: 'after' });
  await until(
    () => contents(fake),
    (c) => c.length === 7,
  );
});

test('an instance recreated with as many old messages as the one before is read again', async () => {
  const evolution = await server();
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  const fake = addFake(evolution);
  fake.message({ text: 'of the first', messageTimestamp: tenDaysAgo }, true);
  await insert(fake, evolution.url);
  await stores(fake, 'of the first');
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and server_id = $2', [fake.name, fake.id]),
    (rows) => rows.length === 1,
  );
  await evolution.down();
  evolution.remove(fake.name);
  const anew = evolution.add(fake.name, fake.token);
  anew.message({ text: 'of the second', messageTimestamp: tenDaysAgo }, true);
  await evolution.up();
  await stores(fake, 'of the second');
});

test.each([
  ['2.2', true],
  // From 2.3.0 to 2.3.4 it may be an edit; since then the message itself is gone.
  ['2', false],
] as const)(
  'a message that version %s keeps with status DELETED was taken back while nobody listened: %s',
  async (version, isRevoked) => {
    const evolution = await server({ version });
    const fake = await connect(evolution);
    // The last moment at which WhatsApp lets somebody do it; or one that every catch-up reads.
    const ago = isRevoked ? 2 * 86_400 : 0;
    fake.message({ text: 'sorry', messageTimestamp: Math.floor(Date.now() / 1_000) - ago });
    fake.message({ text: 'last' });
    await until(
      () => contents(fake),
      (c) => c.length === 2,
    );
    await evolution.down();
    fake.messages[0]!.MessageUpdate = [{ status: 'DELETED' }];
    await evolution.up();
    fake.message({ text: 'after' });
    await stores(fake, 'after');
    if (!isRevoked) {
      expect(await contents(fake)).toContain('sorry');
      return;
    }
    await until(
      () => contents(fake),
      (c) => !c.includes('sorry'),
    );
    const events = await eventsOf(world, `t-${fake.name}`);
    expect(events.filter(({ event }) => event === 'message:deleted')).toMatchObject([
      { payload: { whatsappMessageId: fake.messages[0]!.key.id } },
    ]);
  },
);

test('one record that the database cannot take does not cost the others of its page', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let n = 0; n < 30; n++) fake.message({ text: `m${n}`, messageTimestamp: 1795281000 + n }, true);
  // Refused by the database, not by the reading.
  await world.rows(`create function evolution.refuse_poison() returns trigger language plpgsql as
    $$begin if new.content = 'm7' then raise check_violation; end if; return new; end$$`);
  await world.rows(
    'create trigger poison before insert on evolution.messages for each row execute function evolution.refuse_poison()',
  );
  try {
    await insert(fake, evolution.url);
    await until(
      () => contents(fake),
      (c) => c.length === 29,
    );
    await until(
      () => world.rows('select reason from evolution.rejected where "instanceName" = $1', [fake.name]),
      (rejected) => rejected.length === 1,
    );
  } finally {
    await world.rows('drop function evolution.refuse_poison() cascade');
  }
});

test('a first reading is told as one event; a chat comes with its time', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let n = 0; n < 40; n++)
    fake.message(
      { text: `m${n}`, jid: `55119998${10000 + (n % 8)}@s.whatsapp.net`, messageTimestamp: 1795281000 + n },
      true,
    );
  await insert(fake, evolution.url);
  const told = async (event: string) =>
    (await eventsOf(world, `t-${fake.name}`)).filter((e) => e.event === event);
  await until(
    () => told('chat:synced'),
    (events) => events.length === 1,
  );
  expect((await told('chat:synced'))[0]?.payload).toEqual({
    instanceName: fake.name,
    chats: 8,
    messages: 40,
  });
  expect(await told('chat:message')).toEqual([]);
  const chats = await told('chat:new');
  expect(chats).toHaveLength(8);
  for (const { payload } of chats) expect(payload.lastMessageAt).toEqual(expect.any(String));
});

test('a message dated in the future moves nothing ahead of now', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({
    text: 'a phone whose clock is ahead',
    messageTimestamp: Math.floor(Date.now() / 1_000) + 3 * 3_600,
  });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.restart();
  fake.message({ text: 'makes the namespace' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and caught_up_to is not null', [fake.name]),
    (rows) => rows.length === 1,
  );
  const [ahead] = await world.rows(
    `select c."lastMessageAt" > now() as chat, s.caught_up_to > now() as source, m."sentAt" > now() as message
       from evolution.chats as c
       join evolution.messages as m on m."chatId" = c.id
       join evolution.sources as s on s."tenantId" = c."tenantId"
      where c."instanceName" = $1 order by m."sentAt" desc limit 1`,
    [fake.name],
  );
  expect(ahead).toEqual({ chat: false, source: false, message: false });
});

test('catch-up reads page after page', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let i = 0; i < 95; i++) {
    fake.message(
      { text: `m${i}`, jid: `5511999${100000 + (i % 45)}@s.whatsapp.net`, messageTimestamp: 1795281000 + i },
      true,
    );
  }
  await insert(fake, evolution.url);
  await until(
    () => contents(fake),
    (c) => c.length === 95,
  );
  expect(
    await world.rows('select 1 from evolution.chats where "instanceName" = $1', [fake.name]),
  ).toHaveLength(45);
});

test.each([
  ['one message is', 2, 1],
  ['more messages than a page has are', 4, 45],
])('a first reading misses nothing when %s deleted between two pages', async (_what, at, count) => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let i = 0; i < 95; i++) fake.message({ text: `m${i}`, messageTimestamp: 1795281000 + i }, true);
  let deleted = false;
  fake.beforePage = (page) => {
    if (page !== at || deleted) return;
    deleted = true;
    // The newest, which are on pages that were read. As many of the later pages move to the pages before.
    fake.messages.splice(-count);
  };
  await insert(fake, evolution.url);
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and synced_at is not null', [fake.name]),
    (rows) => rows.length === 1,
  );
  expect(deleted).toBe(true);
  expect(new Set(await contents(fake))).toEqual(new Set(Array.from({ length: 95 }, (_, i) => `m${i}`)));
});
