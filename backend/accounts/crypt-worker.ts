/**
 * The thread that checks slow password hashes Node cannot compute by itself, so
 * that the thread that serves sessions never does (see crypt-thread.ts).
 */
import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import { checkShaCrypt } from './sha-crypt.ts';

export interface CryptTask {
  readonly id: number;
  readonly hash: string;
  readonly password: string;
}

export interface CryptAnswer {
  readonly id: number;
  readonly right: boolean;
}

parentPort?.on('message', ({ id, hash, password }: CryptTask) => {
  let right = false;
  try {
    // `$2y$` is what PHP writes for the corrected algorithm, `$2b$` what OpenBSD does: the same one.
    right = hash.startsWith('$2')
      ? compareSync(password, hash.replace(/^\$2[ay]\$/, '$2b$'))
      : checkShaCrypt(hash, password);
  } catch {
    // A hash that cannot be read fits no password.
  }
  parentPort?.postMessage({ id, right } satisfies CryptAnswer);
});
