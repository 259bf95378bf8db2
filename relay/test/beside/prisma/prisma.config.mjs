// Prisma's schema engine as WebAssembly over node-postgres: the native one would be downloaded.
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { PrismaPg } from '@prisma/adapter-pg';
import { ColumnTypeEnum } from '@prisma/driver-adapter-utils';

// The engine asks the catalogs for types that the adapter does not know: "char", name, pg_node_tree and lists of them.
const AS_TEXT = { 18: 25, 19: 25, 194: 25, 1002: 1009, 1003: 1009 };
const Result = createRequire(import.meta.url)('pg/lib/result.js');
const { addFields } = Result.prototype;
Result.prototype.addFields = function addKnownFields(fields) {
  for (const field of fields) field.dataTypeID = AS_TEXT[field.dataTypeID] ?? field.dataTypeID;
  return addFields.call(this, fields);
};

class Adapter extends PrismaPg {
  async connect() {
    const connection = await super.connect();
    const queryRaw = connection.queryRaw.bind(connection);
    connection.queryRaw = async (query) => {
      const result = await queryRaw(query);
      // As text it ends the engine, and since Postgres 18 every NOT NULL has a row (prisma/orm#29635).
      const type = result.columnNames.indexOf('constraint_type');
      if (type >= 0) result.columnTypes[type] = ColumnTypeEnum.Character;
      return result;
    };
    // The adapter's own cuts at every semicolon, also within a function's body.
    connection.executeScript = async (script) => {
      await connection.underlyingDriver().query(script);
    };
    return connection;
  }

  /** The adapter's own drops the database while it is still connected to it. */
  async connectToShadowDb() {
    const database = `shadow_${randomUUID()}`;
    const server = await this.connect();
    await server.executeScript(`create database "${database}"`);
    const shadow = await new Adapter({ ...this.config, database }).connect();
    const dispose = shadow.dispose.bind(shadow);
    shadow.dispose = async () => {
      await dispose();
      await server.executeScript(`drop database "${database}"`);
      await server.dispose();
    };
    return shadow;
  }
}

// The engine leaves the timers of its time limits behind, and Node would wait for them, up to a minute.
const { setTimeout } = globalThis;
globalThis.setTimeout = (work, ms, ...rest) => {
  const timer = setTimeout(work, ms, ...rest);
  return ms >= 10_000 ? timer.unref() : timer;
};

// `migrate dev` refuses to run without a person whom it could ask. Where it asks, it fails.
process.stdin.isTTY = true;

const { hostname, port, username, password, pathname } = new URL(process.env.DATABASE_URL);

export default {
  schema: './schema.prisma',
  migrations: { path: './migrations' },
  engine: 'js',
  experimental: { adapter: true },
  adapter: async () =>
    new Adapter({
      host: hostname,
      port,
      user: decodeURIComponent(username),
      password: decodeURIComponent(password),
      database: pathname.slice(1),
      // Else a connection that is kept for later holds the command up for ten seconds.
      allowExitOnIdle: true,
    }),
};
