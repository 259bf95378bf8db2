import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { Admission, type AdmissionSettings } from '../../transport/admission.ts';

const settings: AdmissionSettings = { corsOrigin: [], connectionsPerAddress: 2, trustedProxies: 0 };

/** A request from an address that no connection stands behind. */
function from(address: string, headers: Record<string, string> = {}): IncomingMessage {
  const socket = new Socket();
  Object.defineProperty(socket, 'remoteAddress', { value: address });
  const request = new IncomingMessage(socket);
  Object.assign(request.headers, headers);
  return request;
}

describe('origins', () => {
  const at = (origin: string) => from('10.0.0.1', { origin, host: 'relay.example:3000' });

  test('programs send none and are let in', () => {
    expect(new Admission(settings).refuses(from('10.0.0.1'))).toBeNull();
  });

  test("only our own page's by default", () => {
    const admission = new Admission(settings);
    expect(admission.refuses(at('https://relay.example:3000'))).toBeNull();
    expect(admission.refuses(at('https://evil.example'))).toBe('origin_refused');
    expect(admission.refuses(at('https://relay.example:3000.evil.example'))).toBe('origin_refused');
    expect(admission.refuses(at('null'))).toBe('origin_refused');
  });

  test('those of CORS_ORIGIN, to the letter', () => {
    const admission = new Admission({ ...settings, corsOrigin: ['https://app.example'] });
    expect(admission.refuses(at('https://app.example'))).toBeNull();
    expect(admission.refuses(at('http://app.example'))).toBe('origin_refused');
    expect(new Admission({ ...settings, corsOrigin: '*' }).refuses(at('https://evil.example'))).toBeNull();
  });
});

describe('connections of one address', () => {
  test('are counted, and forgotten when they close, once each', () => {
    const admission = new Admission(settings);
    const leave = admission.enter(from('10.0.0.1'));
    admission.enter(from('10.0.0.1'));
    expect(admission.refuses(from('10.0.0.1'))).toBe('too_many_connections');
    expect(admission.refuses(from('10.0.0.2'))).toBeNull();
    leave();
    leave();
    expect(admission.refuses(from('10.0.0.1'))).toBeNull();
    admission.enter(from('10.0.0.1'));
    expect(admission.refuses(from('10.0.0.1'))).toBe('too_many_connections');
  });

  test('X-Forwarded-For is believed only as far as there are proxies', () => {
    const headers = { 'x-forwarded-for': '6.6.6.6, 1.1.1.1, 2.2.2.2' };
    const addressWith = (trustedProxies: number) =>
      new Admission({ ...settings, trustedProxies }).addressOf(from('10.0.0.9', headers));
    expect(addressWith(0)).toBe('10.0.0.9');
    expect(addressWith(1)).toBe('2.2.2.2');
    expect(addressWith(2)).toBe('1.1.1.1');
    expect(new Admission({ ...settings, trustedProxies: 1 }).addressOf(from('10.0.0.9'))).toBe('10.0.0.9');
  });
});
