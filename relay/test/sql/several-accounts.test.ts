// An event for several accounts is one for each of them.
import { clinic, insert, LEVELS, problems, publish, recorded, resync, rows, said, unheard } from './chats.ts';

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

  test('that cannot be computed make every account refetch', async () => {
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
