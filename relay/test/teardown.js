// jest.config.js: globalTeardown.
export { close as default } from './postgres-server.js';
