export default {
  testEnvironment: 'node',
  globalSetup: './relay/test/setup.js',
  globalTeardown: './relay/test/teardown.js',
  roots: ['<rootDir>/relay/test'],
  testMatch: ['**/*.test.ts'],
  // They need a Chromium and an image: npm run test:browser, npm run test:image.
  testPathIgnorePatterns: ['/node_modules/', '(browser|image)\\.test\\.ts$'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'es6' } },
    ],
  },
  // Much longer than any test takes on a calm machine: a slow one fails none.
  testTimeout: 90_000,
  // Much of a test is waiting for Postgres and for other processes.
  maxWorkers: 3,
  // Left to end by itself, Node 20 sometimes spins for ever while it cleans up the handles of connections that were
  // being made. What a test leaves behind shows elsewhere: its database refuses to be dropped.
  forceExit: true,
};
