// Addresses of WhatsApp. One person can be written in several ways (phone number, LID, with and without the digit that
// mobiles got in some countries, with a device suffix), so every address gets an alias, by which it is looked up.

export type AddressKind = 'phone' | 'lid' | 'group' | 'broadcast' | 'status' | 'newsletter' | 'bot';

export interface Address {
  kind: AddressKind;
  /** As WhatsApp writes it, without the device. This is what an application sends to. */
  jid: string;
  /** The same for every way of writing one address; never shown to anyone. */
  alias: string;
}

const PHONE_DOMAIN = 's.whatsapp.net';

/**
 * Reads an address, or null where the text is none: cuids of Evolution's own rows arrive in the same fields.
 * A bare number is a phone number (the EVOLUTION channel sends them so).
 */
export function readAddress(value: unknown): Address | null {
  if (typeof value !== 'string' || value.length > 200) return null;
  const text = value.trim();
  if (/^\+?\d{5,20}$/.test(text)) return phone(text.replace('+', ''));
  const [, user = '', domain = ''] = /^([^@\s:_]+)(?:_\d+)?(?::\d+)?@([a-z0-9.]+)$/i.exec(text) ?? [];
  if (user === '') return null;
  switch (domain.toLowerCase()) {
    case PHONE_DOMAIN:
    case 'c.us':
    case 'hosted':
      return phone(user);
    case 'lid':
    case 'hosted.lid':
      return plain('lid', `${user}@${domain.toLowerCase()}`);
    case 'g.us':
      return plain('group', `${user}@g.us`);
    case 'bot':
      return plain('bot', `${user}@bot`);
    case 'newsletter':
      return plain('newsletter', `${user}@newsletter`);
    case 'broadcast':
      return plain(user === 'status' ? 'status' : 'broadcast', `${user}@broadcast`);
    default:
      return null;
  }
}

function plain(kind: AddressKind, jid: string): Address {
  return { kind, jid, alias: jid };
}

function phone(number: string): Address {
  return {
    kind: 'phone',
    jid: `${number}@${PHONE_DOMAIN}`,
    alias: `${inShortForm(number)}@${PHONE_DOMAIN}`,
  };
}

// One line is written in two ways in these countries. Brazilian mobiles got a ninth digit, and WhatsApp accounts made
// before it are still written without; landlines (first digit 2 to 5) never had one. Mexican mobiles have a 1 behind
// the country code in older accounts, Argentinian ones a 9.
function inShortForm(number: string): string {
  return number
    .replace(/^(55\d{2})9([6-9]\d{7})$/, '$1$2')
    .replace(/^521(\d{10})$/, '52$1')
    .replace(/^549(\d{10})$/, '54$1');
}

/** A LID and a phone number, known to be one person. */
export interface Pair {
  lid: Address;
  phone: Address;
}

/** The pair two addresses make, or null where they do not pair a LID with a phone number. */
export function pairOf(one: Address | null, other: Address | null): Pair | null {
  if (one?.kind === 'lid' && other?.kind === 'phone') return { lid: one, phone: other };
  if (one?.kind === 'phone' && other?.kind === 'lid') return { lid: other, phone: one };
  return null;
}
