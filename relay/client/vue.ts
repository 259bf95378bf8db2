// recado-client/vue: composables over client.status, client.on() and client.liveList().
import { onScopeDispose, type ShallowRef, shallowReadonly, shallowRef } from 'vue';
import type { AnyEvents, Client, LiveListOptions, LiveListValue, Status, Store } from './client.ts';

/** A client that is closed with the component, or the effect scope, that opened it. */
export function useRecado<Events extends object = AnyEvents>(open: () => Client<Events>): Client<Events> {
  const client = open();
  onScopeDispose(() => client.close());
  return client;
}

export function useStatus<Events extends object>(client: Client<Events>): Readonly<ShallowRef<Status>> {
  return refOf(client.status);
}

export function useEvent<Events extends object, E extends keyof Events & string>(
  client: Client<Events>,
  event: E,
  handler: Events[E],
): void {
  onScopeDispose(client.on(event, handler));
}

/** The rows of a live list, which is closed with the component. */
export function useLiveList<Row, Events extends object>(
  client: Client<Events>,
  options: LiveListOptions<Row, Events>,
): Readonly<ShallowRef<LiveListValue<Row>>> {
  const list = client.liveList(options);
  onScopeDispose(() => list.close());
  return refOf(list);
}

function refOf<T>(store: Store<T>): Readonly<ShallowRef<T>> {
  // The type that shallowRef() infers stays open for a T.
  const ref = shallowRef(store.get()) as ShallowRef<T>;
  onScopeDispose(
    store.subscribe(() => {
      ref.value = store.get();
    }),
  );
  return shallowReadonly(ref);
}
