/**
 * The thread that keeps the search indexes of all accounts of this process:
 * SQLite is synchronous, and decoding thousands of messages takes seconds, so
 * neither is done where sessions are served (see index-thread.ts).
 */
import { parentPort } from 'node:worker_threads';
import { IndexDatabase } from './index-database.ts';
import type { IndexAnswer, IndexReply, IndexTask } from './index-tasks.ts';
import { textOfMessage } from './message-text.ts';

/** Indexes kept open; the least lately used is closed. */
const openMax = 32;
/** By directory, the most lately used last. */
const open = new Map<string, IndexDatabase>();

function database(directory: string): IndexDatabase {
  const known = open.get(directory);
  if (known !== undefined) {
    open.delete(directory);
    open.set(directory, known);
    return known;
  }
  const [oldest] = open;
  if (open.size >= openMax && oldest !== undefined) {
    open.delete(oldest[0]);
    oldest[1].close(true);
  }
  const fresh = new IndexDatabase(directory);
  open.set(directory, fresh);
  return fresh;
}

function close(directory: string, whole: boolean): void {
  const known = open.get(directory);
  open.delete(directory);
  known?.close(whole);
}

const nothing: IndexAnswer = { through: 0, uids: new Uint32Array(0), full: false, begun: undefined };

function answer(task: IndexTask): IndexAnswer {
  if (task.kind === 'close') {
    close(task.directory, task.whole);
    return nothing;
  }
  const begun = open.has(task.directory) ? undefined : database(task.directory).begun;
  const index = database(task.directory);
  const { folder } = task;
  let uids = nothing.uids;
  let full = false;
  if (task.kind === 'find') uids = index.find(folder, task.query);
  else if (task.kind === 'drop') index.drop(folder, task.uids);
  else if (task.kind === 'keep') index.keep(folder, task.uids);
  else {
    full = index.bytes >= task.indexBytesMax;
    if (!full && index.through(folder) === task.after) index.add(folder, textsOf(task), task.through);
  }
  return { through: index.through(folder), uids, full, begun };
}

function textsOf(task: IndexTask & { kind: 'add' }): (readonly [number, string | undefined])[] {
  const bytes = Buffer.from(task.bytes.buffer, task.bytes.byteOffset, task.bytes.length);
  let at = 0;
  return task.messages.map(({ uid, length }) => {
    if (length === undefined) return [uid, undefined] as const;
    at += length;
    return [uid, textOfMessage(bytes.subarray(at - length, at))] as const;
  });
}

parentPort?.on('message', ({ id, task }: { id: number; task: IndexTask }) => {
  let reply: IndexReply;
  try {
    reply = { id, answer: answer(task) };
  } catch (error) {
    // Whatever it was, this file is not asked again: the next task begins a new one.
    try {
      close(task.directory, false);
    } catch {
      // Not even to be closed.
    }
    reply = { id, failure: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(reply);
});
