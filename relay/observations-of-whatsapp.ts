// Everything that the WhatsApp worker can log; part of the list in observations.ts.

export const whatsappObservations = {
  evolution_held: {
    level: 'info',
    text: (o: { instance: string }) => `this worker serves WhatsApp instance ${o.instance}`,
  },
  evolution_released: {
    level: 'info',
    text: (o: { instance: string }) =>
      `this worker no longer serves WhatsApp instance ${o.instance}: it was changed, removed or released`,
  },
  evolution_status: {
    level: 'info',
    text: (o: { instance: string; status: string; reason: string }) =>
      `WhatsApp instance ${o.instance} is ${o.status}${o.reason === '' ? '' : ` (${o.reason})`}`,
  },
  evolution_reading: {
    level: 'info',
    text: (o: { instance: string; chats: number; messages: number; of: number | null }) =>
      `${o.instance}: ${o.chats} chats read, ${o.messages}${o.of === null ? '' : ` of ${o.of}`} messages`,
  },
  evolution_caught_up: {
    level: 'info',
    text: (o: { instance: string; created: number; updated: number; messages: number }) =>
      `${o.instance}: caught up, ${o.created} new chats, ${o.updated} changed, ${o.messages} new messages`,
  },
  evolution_catch_up_failed: {
    level: 'warn',
    text: (o: { instance: string; error: string }) =>
      `${o.instance}: cannot read what was missed: ${o.error}`,
  },
  evolution_subscribed_again: {
    level: 'warn',
    text: (o: { instance: string }) =>
      `${o.instance}: the server had stopped emitting its events (the instance was recreated, or its settings were changed); subscribed again`,
  },
  evolution_send_failed: {
    level: 'warn',
    text: (o: { instance: string; error: string }) =>
      `${o.instance}: cannot send messages or mark chats as read; both wait: ${o.error}`,
  },
  evolution_overflowed: {
    level: 'warn',
    text: (o: { instance: string }) =>
      `${o.instance}: events arrive faster than they can be written; the rest is read over REST`,
  },
  evolution_rejected: {
    level: 'warn',
    text: (o: { instance: string; name: string; reason: string }) =>
      `${o.instance}: an item of ${o.name} was set aside in evolution.rejected: ${o.reason}`,
  },
  evolution_write_failed: {
    level: 'error',
    text: (o: { instance: string; error: string; failures: number }) =>
      `${o.instance}: cannot write to the database (${o.error}), attempt ${o.failures}`,
  },
  evolution_turn_failed: {
    level: 'error',
    text: (o: { error: string; failures: number }) =>
      `the worker cannot read its list of instances (${o.error}), attempt ${o.failures}`,
  },
} as const;
