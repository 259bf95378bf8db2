// postmaster.pid, by which Postgres knows that a server runs on its data.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../errors.ts';
import { unless } from './embedded-binaries.ts';

/**
 * Postgres trusts a postmaster.pid as long as its process lives. After a crash that number may have gone to another
 * program: usual in a restarted container, where numbers begin at 1 again. Linux tells us the program's name.
 */
export async function forgetRecycledPid(data: string): Promise<void> {
  const pid = Number((await readLock(data))[0]);
  if (!(pid > 0) || process.platform !== 'linux') return;
  const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(unless('ENOENT', 'ESRCH'));
  if (program !== undefined && program.trim() !== 'postgres')
    await rm(join(data, 'postmaster.pid'), { force: true });
}

export async function isServing(data: string): Promise<boolean> {
  const lock = await readLock(data);
  return isAlive(Number(lock[0])) && lock[7]?.trim() !== 'stopping';
}

/** The lines of postmaster.pid: the first is the process id, the eighth `starting`, `ready` or `stopping`. */
async function readLock(data: string): Promise<string[]> {
  const text = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(unless('ENOENT'));
  return text?.split('\n') ?? [];
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}
