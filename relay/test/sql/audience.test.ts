// Who hears an event inside its account, as the database records it.
import {
  chats,
  clinic,
  insert,
  LEVELS,
  problems,
  publish,
  recorded,
  resync,
  rows,
  said,
  unheard,
} from './chats.ts';

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
      { problem: 'audience_empty', detail: expect.stringContaining('1 times the audience was empty') },
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
