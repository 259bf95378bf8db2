// recado-client/react: hooks over client.status, client.on() and client.liveList().
import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { AnyEvents, Client, LiveList, LiveListOptions, LiveListValue, Status } from './client.ts';

const LOADING: LiveListValue<never> = { rows: [], status: 'loading', error: null };
const never = () => () => {};

/**
 * A client that lives as long as the component. null before it is mounted, so also on a server.
 * @param open calls connect(); asked once for a mount
 */
export function useRecado<Events extends object = AnyEvents>(
  open: () => Client<Events>,
): Client<Events> | null {
  const [client, setClient] = useState<Client<Events> | null>(null);
  const latest = useRef(open);
  latest.current = open;
  useEffect(() => {
    // StrictMode mounts twice in one tick. A client that is closed in the tick it was made in never connects.
    const made = latest.current();
    setClient(made);
    return () => {
      setClient(null);
      made.close();
    };
  }, []);
  return client;
}

export function useStatus<Events extends object>(client: Client<Events> | null): Status {
  return useSyncExternalStore(
    client?.status.subscribe ?? never,
    () => client?.status.get() ?? 'connecting',
    () => 'connecting',
  );
}

/** Calls the newest handler for each event while the component is mounted. */
export function useEvent<Events extends object, E extends keyof Events & string>(
  client: Client<Events> | null,
  event: E,
  handler: Events[E],
): void {
  const latest = useRef(handler);
  useEffect(() => {
    latest.current = handler;
  });
  useEffect(() => {
    // A generic type cannot say that every handler is a function of any arguments.
    const call = (...args: unknown[]) => (latest.current as (...args: unknown[]) => void)(...args);
    return client?.on(event, call as Events[E]);
  }, [client, event]);
}

/**
 * The rows of a live list.
 * @param options as for client.liveList(); read when the list is made
 * @param deps what `load` depends on; when one changes, a new list is loaded
 */
export function useLiveList<Row, Events extends object>(
  client: Client<Events> | null,
  options: LiveListOptions<Row, Events>,
  deps: readonly unknown[] = [],
): LiveListValue<Row> {
  const [list, setList] = useState<LiveList<Row> | null>(null);
  const latest = useRef(options);
  latest.current = options;
  // The caller names what load depends on.
  useEffect(() => {
    if (!client) return;
    const made = client.liveList(latest.current);
    setList(made);
    return () => {
      setList(null);
      made.close();
    };
  }, [client, ...deps]);
  return useSyncExternalStore(
    list?.subscribe ?? never,
    () => list?.get() ?? LOADING,
    () => LOADING,
  );
}
