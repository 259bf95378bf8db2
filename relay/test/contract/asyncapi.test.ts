// recado contract --format asyncapi, read by the official parser. In a file of its own, since that takes seconds to load.
import { Parser } from '@asyncapi/parser';
import { printContract } from '../../commands/contract.ts';
import { createDatabase } from '../postgres.ts';

test('is valid AsyncAPI 3.0, with every event of the contract and of the relay itself', async () => {
  const database = await createDatabase();
  try {
    const text = await printContract(database.pool, 'asyncapi', 'orders.account.');
    const { document, diagnostics } = await new Parser().parse(text);
    const wrong = diagnostics.filter(({ severity }) => severity <= 1);
    expect(wrong.map(({ message, path }) => [path.join('.'), message])).toEqual([]);
    expect(document!.version()).toBe('3.0.0');
    const { rows } = await database.pool.query<{ event: string }>(
      'select distinct event from relay.catalogue',
    );
    const names = document!.messages().map((message) => message.name());
    expect(names.sort()).toEqual(
      [...rows.map(({ event }) => event), 'relay:ready', 'relay:resync', 'relay:position'].sort(),
    );
    expect(document!.channels().all()[0]!.address()).toBe('orders.account.{account}');
  } finally {
    await database.close();
  }
});
