// One statement that changes every doctor: what its trigger adds, once for each row and once for the statement.
import type pg from 'pg';
import { tidy, withSession } from './cluster.ts';
import { type Figure, median, medianRatio } from './figures.ts';
import { DOCTORS, EVENT, peers, publishBusy } from './peers.ts';
import { type Bench, inOrder } from './run.ts';

const VARIANTS = ['no trigger', 'row', 'statement'] as const;
type Variant = (typeof VARIANTS)[number];

async function prepare(session: pg.Client, variant: Variant): Promise<void> {
  if (variant === 'no trigger') await session.query('select relay.suspend($1)', [EVENT]);
  else await publishBusy(session, variant);
}

async function updateAll(databaseUrl: string): Promise<number> {
  return withSession(databaseUrl, async (session) => {
    const began = performance.now();
    await session.query('update public.doctors set "isBusy" = not "isBusy"');
    return performance.now() - began;
  });
}

export async function bulk(bench: Bench): Promise<Figure[]> {
  const databaseUrl = await bench.cluster.database(peers.recado);
  const times = new Map<Variant, number[]>(VARIANTS.map((variant) => [variant, []]));
  for (let round = 0; round < bench.rounds * 3; round += 1) {
    for (const variant of inOrder(VARIANTS, round)) {
      const took = await bench.calm.measure(
        () => updateAll(databaseUrl),
        async () => {
          await withSession(databaseUrl, (session) => prepare(session, variant));
          await tidy(databaseUrl, peers.recado);
        },
      );
      times.get(variant)!.push(took);
    }
  }
  await withSession(databaseUrl, (session) => publishBusy(session, 'row'));
  const section = 'bulk';
  const rounds = (variant: Variant) => times.get(variant)!;
  return [
    ...VARIANTS.map(
      (variant): Figure => ({
        section,
        what: `UPDATE of ${DOCTORS.toLocaleString('en-US')} rows, ${variant === 'no trigger' ? variant : `${variant} level`}`,
        value: median(rounds(variant)),
        rounds: rounds(variant),
        unit: 'ms',
      }),
    ),
    {
      section,
      what: 'statement level ÷ no trigger',
      value: medianRatio(rounds('statement'), rounds('no trigger')),
      unit: '',
      limit: { atMost: 3.5 },
    },
    {
      section,
      what: 'row level ÷ no trigger',
      value: medianRatio(rounds('row'), rounds('no trigger')),
      unit: '',
      limit: { atMost: 7 },
    },
  ];
}
