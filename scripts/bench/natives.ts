// Brokers and web servers that deliver to many by themselves, where the machine has them: Debian's nats-server,
// mosquitto, and nginx with libnginx-mod-nchan. None knows of accounts, tokens, positions or a database.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { deadPort } from '../../relay/test/world.ts';
import type { Wanted } from './connections.ts';
import { cpuOf } from './cpu.ts';
import { mqttConnect, mqttPublish, TOPIC } from './protocols.ts';

const NATIVES = ['nats', 'mosquitto', 'nchan'] as const;
export type NativeName = (typeof NATIVES)[number];

const NCHAN = '/usr/lib/nginx/modules/ngx_nchan_module.so';

interface Kind {
  readonly label: string;
  readonly program: string;
  readonly needs?: string;
  /** What its clients speak. */
  readonly protocol: Wanted['protocol'];
  configure(port: number, folder: string): string;
  arguments(configuration: string): string[];
  /** What its publisher sends first. */
  readonly greeting: Buffer;
  publish(message: Buffer, port: number): Buffer;
}

const KINDS: Record<NativeName, Kind> = {
  nats: {
    label: 'nats-server',
    program: '/usr/sbin/nats-server',
    protocol: 'nats',
    configure: (port) => `host: 127.0.0.1\nport: ${port}\n`,
    arguments: (configuration) => ['--config', configuration],
    greeting: Buffer.from('CONNECT {"verbose":false}\r\n'),
    publish: (message) =>
      Buffer.concat([Buffer.from(`PUB ${TOPIC} ${message.length}\r\n`), message, Buffer.from('\r\n')]),
  },
  mosquitto: {
    label: 'mosquitto (MQTT, QoS 0)',
    program: '/usr/sbin/mosquitto',
    protocol: 'mqtt',
    configure: (port) => `listener ${port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n`,
    arguments: (configuration) => ['-c', configuration],
    greeting: mqttConnect(),
    publish: mqttPublish,
  },
  nchan: {
    label: 'nginx with nchan (websocket)',
    program: '/usr/sbin/nginx',
    needs: NCHAN,
    protocol: 'ws',
    configure: (port, folder) => `
      load_module ${NCHAN};
      daemon off; master_process off; pid ${folder}/pid;
      events { worker_connections 4096; }
      http {
        access_log off;
        client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
        uwsgi_temp_path ${folder}; scgi_temp_path ${folder};
        server {
          listen 127.0.0.1:${port};
          keepalive_requests 1000000;
          location = /publish { nchan_publisher; nchan_channel_id ${TOPIC}; nchan_message_buffer_length 100; }
          location = /${TOPIC} { nchan_subscriber websocket; nchan_channel_id ${TOPIC}; nchan_subscriber_first_message newest; }
        }
      }`,
    arguments: (configuration) => ['-e', 'stderr', '-c', configuration],
    greeting: Buffer.alloc(0),
    publish: (message, port) =>
      Buffer.concat([
        Buffer.from(
          `POST /publish HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${message.length}\r\n\r\n`,
        ),
        message,
      ]),
  },
};

export const labelOfNative = (name: NativeName) => KINDS[name].label;

export function findNatives(): NativeName[] {
  return NATIVES.filter((name) => {
    const { program, needs = program } = KINDS[name];
    return existsSync(program) && existsSync(needs);
  });
}

export interface Native {
  readonly port: number;
  readonly protocol: Wanted['protocol'];
  /** Microseconds of CPU since it started. */
  cpu(): Promise<number>;
  /** To every client, so many times. */
  publish(message: Buffer, times: number): void;
  close(): Promise<void>;
}

export async function startNative(name: NativeName): Promise<Native> {
  const kind = KINDS[name];
  const folder = await mkdtemp(join(tmpdir(), 'recado-native-'));
  const port = await deadPort();
  const configuration = join(folder, 'configuration');
  await writeFile(configuration, kind.configure(port, folder), { mode: 0o644 });
  const child = spawn(kind.program, kind.arguments(configuration), { stdio: ['ignore', 'ignore', 'pipe'] });
  const publisher = await connectTo(port, child);
  publisher.resume();
  publisher.write(kind.greeting);
  return {
    port,
    protocol: kind.protocol,
    cpu: async () => (await cpuOf(child.pid!)) / 1_000,
    publish(message, times) {
      const one = kind.publish(message, port);
      publisher.write(Buffer.concat(Array.from({ length: times }, () => one)));
    },
    async close() {
      publisher.destroy();
      if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** When it listens. */
async function connectTo(port: number, child: ChildProcess): Promise<Socket> {
  let said = '';
  child.stderr!.on('data', (data) => {
    said = `${said}${data}`.slice(-1_000);
  });
  while (child.exitCode === null && child.signalCode === null) {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    try {
      await once(socket, 'connect');
      socket.on('error', () => undefined);
      return socket;
    } catch {
      await delay(20); // it does not listen yet
    }
  }
  throw new Error(`${child.spawnfile} ended: ${said}`);
}
