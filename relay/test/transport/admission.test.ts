import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { Admission, type AdmissionSettings, networkOf } from '../../transport/limits/admission.ts';

const settings: AdmissionSettings = {
  corsOrigin: [],
  connectionsPerAddress: 2,
  connectionsPerAccount: 3,
  maxConnections: 100,
  trustedProxies: 0,
};

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
    const place = admission.enter(from('10.0.0.1'));
    admission.enter(from('10.0.0.1'));
    expect(admission.refuses(from('10.0.0.1'))).toBe('too_many_connections');
    expect(admission.refuses(from('10.0.0.2'))).toBeNull();
    place.leave();
    place.leave();
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

  test('no longer count once a token is verified: then the account does', () => {
    const admission = new Admission(settings);
    const tabs = Array.from({ length: 3 }, () => {
      expect(admission.refuses(from('10.0.0.1'))).toBeNull();
      const place = admission.enter(from('10.0.0.1'));
      expect(place.moveTo('clinic')).not.toBeNull();
      return place;
    });
    const fourth = admission.enter(from('10.0.0.1'));
    expect(fourth.moveTo('clinic')).toBeNull();
    // It is still the address's.
    admission.enter(from('10.0.0.1'));
    expect(admission.refuses(from('10.0.0.1'))).toBe('too_many_connections');
    tabs[0]!.leave();
    expect(fourth.moveTo('clinic')).not.toBeNull();
    expect(fourth.moveTo('clinic')).not.toBeNull();
    expect(admission.refuses(from('10.0.0.1'))).toBeNull();
  });

  test('are those of a /64 with IPv6, and of the IPv4 address where it is written as IPv6', () => {
    const admission = new Admission(settings);
    admission.enter(from('2001:db8:1:2::1'));
    admission.enter(from('2001:db8:1:2:ffff::9'));
    expect(admission.refuses(from('2001:db8:1:2:3:4:5:6'))).toBe('too_many_connections');
    expect(admission.refuses(from('2001:db8:1:3::1'))).toBeNull();
    admission.enter(from('::ffff:10.0.0.1'));
    admission.enter(from('10.0.0.1'));
    expect(admission.refuses(from('10.0.0.1'))).toBe('too_many_connections');
    expect(networkOf('::1')).toBe('0:0:0:0::/64');
    expect(networkOf('fe80::1%eth0')).toBe('fe80:0:0:0::/64');
  });

  test('are counted under a name of bounded length', () => {
    expect(networkOf(`::ffff:${'1'.repeat(5_000)}.1.1.1`).length).toBeLessThan(65);
  });

  test('are bounded in total too', () => {
    const admission = new Admission({ ...settings, maxConnections: 2 });
    admission.enter(from('10.0.0.1')).moveTo('a');
    admission.enter(from('10.0.0.2')).moveTo('b');
    expect(admission.refuses(from('10.0.0.3'))).toBe('relay_full');
  });
});
