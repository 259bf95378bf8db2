// jest.config.js: globalSetup.
export { open as default } from './postgres-server.js';
