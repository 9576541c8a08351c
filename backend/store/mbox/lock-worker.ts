/**
 * The thread that takes kernel locks: the call may wait for a file server, and
 * the thread that serves sessions must not (see kernel-lock.ts). Descriptors
 * are the process's, so a lock taken here is held by whoever has the file open.
 */
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

export interface LockTask {
  readonly id: number;
  /** Absent: only whether there are locks is asked. */
  readonly fd?: number;
}

export type LockAnswer = { readonly id: number } & (
  | { readonly locked: boolean }
  | { readonly failure: string; readonly cannotLoad: boolean }
);

interface Locks {
  tryLock(fd: number): boolean;
}

let locks: Locks | undefined;

parentPort?.on('message', ({ id, fd }: LockTask) => {
  let answer: LockAnswer;
  try {
    locks ??= createRequire(import.meta.url)('fs-native-extensions') as Locks;
    answer = { id, locked: fd === undefined || locks.tryLock(fd) };
  } catch (error) {
    answer = {
      id,
      failure: error instanceof Error ? error.message : String(error),
      cannotLoad: locks === undefined,
    };
  }
  parentPort?.postMessage(answer);
});
