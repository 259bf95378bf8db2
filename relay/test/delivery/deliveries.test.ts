import { toDeliveries } from '../../delivery/deliveries.ts';
import type { OutboxEvent } from '../../outbox/events.ts';

const run = {
  epoch: '0123456789ab',
  seen: { xmax: 5n, xip: [] },
  bound: { xmax: 9n, xip: [] },
  complete: true,
};

function event(id: number, fields: Partial<OutboxEvent> = {}): OutboxEvent {
  const plain = {
    xid: 7n,
    account: '1',
    event: 'doctors.created',
    payload: '{}',
    known: true,
    audience: null,
    capturedAt: 0,
  };
  return { id: BigInt(id), ...plain, ...fields };
}

test('the last event of a complete run has the plain position, those before it their place in the batch', () => {
  const positions = toDeliveries([event(1), event(2)], run).map(({ position }) => position);
  expect(positions).toEqual(['0123456789ab-5~9~1', '0123456789ab-9']);
  expect(toDeliveries([event(1)], { ...run, complete: false })[0]!.position).toBe('0123456789ab-5~9~1');
});

test('what the contract does not know is not sent, nor what belongs to no account', () => {
  expect(toDeliveries([event(1, { known: false }), event(2, { account: null })], run)).toEqual([]);
  expect(toDeliveries([event(1, { account: null, payload: null })], run)).toEqual([]);
  expect(toDeliveries([event(1, { event: 'relay:revoke', known: false })], run)).toEqual([]);
});

test('of several resyncs the last is sent, without the error and the table', () => {
  const failed = (id: number, fields: Partial<OutboxEvent> = {}) =>
    event(id, {
      event: 'relay:resync',
      known: false,
      payload: '{"reason":"capture_failed","event":"doctors.busy","table":"public.doctors","error":"secret"}',
      ...fields,
    });
  const deliveries = toDeliveries([failed(1), event(2), failed(3, { account: null })], run);
  expect(deliveries.map(({ event, payload }) => [event, payload])).toEqual([
    ['doctors.created', '{}'],
    ['relay:resync', '{"reason":"capture_failed","event":"doctors.busy"}'],
  ]);
});

test('a payload too large to be read becomes a resync that names its event', () => {
  const [delivery] = toDeliveries([event(1, { payload: null })], run);
  expect(delivery).toMatchObject({
    event: 'relay:resync',
    payload: '{"reason":"event_too_large","event":"doctors.created"}',
  });
});
