// What clients that come back have missed: many events, continuous ones, or events that retention has removed.
import { account, database, emit } from '../one-database.ts';

/** Numbers, in one transaction. */
export async function emitMany(from: number, to: number, whom = account): Promise<void> {
  await database.query(
    `insert into relay.events (account_id, event, payload)
     select $1, 'test.event', to_jsonb(n) from generate_series($2::int, $3::int) n`,
    [whom, from, to],
  );
}

/** Writes numbered events until told to stop, and resolves with the last number then. */
export function writeOnAndOn(): () => Promise<number> {
  let stopped = false;
  let n = 0;
  const writing = (async () => {
    while (!stopped) {
      n += 1;
      await emit(n);
    }
  })();
  return async () => {
    stopped = true;
    await writing;
    return n;
  };
}

/** As retention leaves it: everything is gone, and the mark says up to where. */
export async function emptyAll(): Promise<void> {
  await database.query(
    `update relay.installation as i set emptied_in = pg_current_snapshot(), emptied_through = last.xid, emptied_witness = last.witness
       from (select xid, relay.witness(created_at) as witness from relay.events order by xid desc, id desc limit 1) as last`,
  );
  await database.query("begin; set local relay.removing = 'on'; delete from relay.events; commit");
}

export async function positionNow(): Promise<string> {
  const [row] = await database.query<{ text: string }>('select relay.position() as text');
  return row!.text;
}
