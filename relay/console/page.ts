// The files of the page, as they are: no build step. Only what is listed when the relay starts can be asked for.
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join, sep } from 'node:path';
import type { Routes } from '../http/reply.ts';
import { packageRoot } from '../package.ts';

const FOLDER = join(packageRoot, 'relay/console/page');
const { resolve } = createRequire(import.meta.url);
/** Served as they come from the registry. */
const LIBRARIES = {
  'socket.io.js': join(dirname(resolve('socket.io-client/package.json')), 'dist/socket.io.esm.min.js'),
  'uplot.js': join(dirname(resolve('uplot/package.json')), 'dist/uPlot.esm.js'),
  'uplot.css': join(dirname(resolve('uplot/package.json')), 'dist/uPlot.min.css'),
};

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Nothing from other origins, nothing inline, no framing. Older browsers need ws: to be listed. */
const POLICY = (host: string) =>
  [
    "default-src 'self'",
    `connect-src 'self' ws://${host} wss://${host}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "object-src 'none'",
  ].join('; ');

/** `/` and what it loads from /console/. */
export async function pageRoutes(): Promise<Routes> {
  const files = (await readdir(FOLDER, { recursive: true })).filter((name) => extname(name) in TYPES);
  const served: [path: string, file: string][] = [
    ['/', join(FOLDER, 'index.html')],
    ...files.map((name): [string, string] => [`/console/${name.split(sep).join('/')}`, join(FOLDER, name)]),
    ...Object.entries(LIBRARIES).map(([name, file]): [string, string] => [`/console/${name}`, file]),
  ];
  return Object.fromEntries(
    served.map(([path, file]) => [
      `GET ${path}`,
      async (request) => ({
        status: 200,
        // Read each time: a file that is edited shows with the next reload.
        body: await readFile(file),
        type: TYPES[extname(file)]!,
        headers: {
          'content-security-policy': POLICY(nameOf(request.headers.host)),
          'cross-origin-opener-policy': 'same-origin',
          'permissions-policy': 'camera=(), geolocation=(), microphone=()',
        },
      }),
    ]) satisfies [string, Routes[string]][],
  );
}

/** The host as a policy may hold it; a header that is none would end the policy early. */
function nameOf(host: string | undefined): string {
  return /^[\w.-]+(:\d+)?$|^\[[\da-f:]+\](:\d+)?$/i.test(host ?? '') ? host! : 'localhost';
}
