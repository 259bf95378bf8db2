import { index, pgEnum, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';

const id = uuid().primaryKey().defaultRandom();

export const tenants = pgTable('tenants', { id, name: text().notNull() });

export const doctors = pgTable('doctors', {
  id,
  tenantId: uuid()
    .notNull()
    .references(() => tenants.id),
  name: text().notNull(),
});

export const appointmentStatus = pgEnum('AppointmentStatus', ['BOOKED', 'DONE']);

export const appointments = pgTable(
  'appointments',
  {
    id,
    doctorId: uuid()
      .notNull()
      .references(() => doctors.id, { onDelete: 'cascade' }),
    status: appointmentStatus().notNull().default('BOOKED'),
    startsAt: timestamp().notNull().defaultNow(),
  },
  (table) => [index().on(table.doctorId, table.startsAt)],
);

export const chats = pgTable('chats', {
  id,
  tenantId: uuid()
    .notNull()
    .references(() => tenants.id),
});

export const messages = pgTable('messages', {
  id,
  chatId: uuid()
    .notNull()
    .references(() => chats.id, { onDelete: 'cascade' }),
  text: text().notNull(),
});
