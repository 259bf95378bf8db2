// A certificate of a server's own, as openssl makes it.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Writes a key and a certificate of two days for `name`, and for localhost. */
export async function makeCertificate(key: string, certificate: string, name: string): Promise<void> {
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const files = ['-keyout', key, '-out', certificate];
  await promisify(execFile)('openssl', [
    ...['req', '-new', '-x509', '-nodes', '-days', '2'],
    ...curve,
    ...names,
    ...files,
  ]);
}
