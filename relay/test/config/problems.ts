// What is wrong with an environment, a line each.
import { type Environment, readSettings } from '../../config/settings.ts';
import { RecadoError } from '../../errors.ts';

export const SECRET = 'a secret for tests that has more than thirty-two bytes';
export const URL_WITH_PASSWORD = 'postgres://app:hunter2@db.example:5432/clinic';
/** The least a relay beside a real database needs. */
export const PRODUCTION = { DATABASE_URL: URL_WITH_PASSWORD, JWT_SECRET: SECRET };

export function problemsOf(env: Environment): string[] {
  try {
    readSettings(env);
  } catch (error) {
    if (error instanceof RecadoError && error.code === 'config_invalid') return error.message.split('\n');
    throw error;
  }
  return [];
}
