// `recado start --demo-whatsapp`: an Evolution server with a few people behind it who write now and then.
import pg from 'pg';
import { type EvolutionServer, type FakeInstance, startEvolutionServer } from './server.ts';

const INSTANCE = 'vendas-2024';
const TOKEN = 'demo-token-of-vendas-2024';
const SECONDS_BETWEEN = 8;

const people = [
  { jid: '5581999990001@s.whatsapp.net', name: 'Ana Maria' },
  { jid: '5581999990002@s.whatsapp.net', name: 'João Silva' },
  { jid: '5581999990003@s.whatsapp.net', name: 'Bia Torres' },
  { jid: '5581999990004@s.whatsapp.net', name: 'Davi Rocha' },
];
const sentences = [
  'Bom dia! Ainda tem horário hoje?',
  'Preciso remarcar a consulta de amanhã.',
  'Recebi o resultado, obrigada!',
  'Posso chegar quinze minutos antes?',
  'Qual o valor do ultrassom?',
  'Estou a caminho.',
];

/** Starts it, gives it to account 1 in evolution.instances, and lets people write until it is closed. */
export async function startWhatsAppDemo(databaseUrl: string): Promise<{ close(): Promise<void> }> {
  const server = await startEvolutionServer({ version: '2' });
  const instance = server.add(INSTANCE, TOKEN);
  for (const [index, person] of people.entries()) say(instance, index, person, true);
  await register(databaseUrl, server);
  let count = people.length;
  const timer = setInterval(() => {
    say(instance, count, people[count % people.length]!, false);
    count += 1;
  }, SECONDS_BETWEEN * 1_000);
  return {
    async close() {
      clearInterval(timer);
      await server.close();
    },
  };
}

function say(
  instance: FakeInstance,
  count: number,
  { jid, name }: { jid: string; name: string },
  silent: boolean,
): void {
  instance.message({ jid, pushName: name, text: sentences[count % sentences.length]! }, silent);
}

async function register(databaseUrl: string, server: EvolutionServer): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(
      `insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, '1', $2, $3)
       on conflict (name) do update set host = excluded.host, "apiKey" = excluded."apiKey"`,
      [INSTANCE, server.url, TOKEN],
    );
  } finally {
    await client.end();
  }
}
