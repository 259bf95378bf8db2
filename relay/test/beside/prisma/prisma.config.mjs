// Prisma's schema engine as WebAssembly over node-postgres: the native one would be downloaded.
import { createRequire } from 'node:module';
import { PrismaPg } from '@prisma/adapter-pg';

// The engine asks the catalogs for types that the adapter does not know: "char", name, pg_node_tree and lists of them.
const AS_TEXT = { 18: 25, 19: 25, 194: 25, 1002: 1009, 1003: 1009 };
const Result = createRequire(import.meta.url)('pg/lib/result.js');
const { addFields } = Result.prototype;
Result.prototype.addFields = function addKnownFields(fields) {
  for (const field of fields) field.dataTypeID = AS_TEXT[field.dataTypeID] ?? field.dataTypeID;
  return addFields.call(this, fields);
};

export default {
  schema: './schema.prisma',
  migrations: { path: './migrations' },
  engine: 'js',
  experimental: { adapter: true },
  adapter: async () => new PrismaPg({ connectionString: process.env.DATABASE_URL }),
};
