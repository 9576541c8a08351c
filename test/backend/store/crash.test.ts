/** CASES 93: the process that owns an account is killed at any moment; what it acknowledged is there, once. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { expect, test } from '@jest/globals';
import { look } from './crash-look.ts';
import { type ChildLine, CrashModel } from './crash-model.ts';
import { type Bench, makeBench } from './store-fixture.ts';

const rounds = Number(process.env.POSTERN_CRASH_ROUNDS ?? 30);
const childFile = path.join(import.meta.dirname, 'crash-child.ts');

async function runUntilKilled(
  bench: Bench,
  epoch: number,
  seed: number,
  retries: [number, string][],
  livesMs: number,
): Promise<ChildLine[]> {
  const child: ChildProcess = spawn(
    process.execPath,
    [childFile, bench.directory, String(epoch), String(seed), JSON.stringify(retries)],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH ?? '' } },
  );
  let text = '';
  let trouble = '';
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    if (text === '') setTimeout(() => child.kill('SIGKILL'), livesMs);
    text += chunk;
  });
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
    trouble += chunk;
  });
  const signal = await new Promise((resolve) => child.on('close', (_, by) => resolve(by)));
  expect({ signal, trouble }).toEqual({ signal: 'SIGKILL', trouble: '' });
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ChildLine);
}

test(`killed ${rounds} times in the midst of its work, an account keeps every promise`, async () => {
  const bench = await makeBench();
  const model = new CrashModel();
  let acknowledged = 0;
  try {
    let seed = Number(process.env.POSTERN_CRASH_SEED ?? 20_261_123);
    for (let round = 1; round <= rounds; round++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const lines = await runUntilKilled(bench, round * 2 - 1, seed, model.retries, 3 + (seed % 120));
      acknowledged += lines.filter((line) => 'ack' in line).length;
      const store = await bench.open({ epoch: round * 2 });
      const complaints = model.round(lines, await look(store));
      // Every other time the account is left as if this process had been killed too.
      if (round % 2 === 0) await store.close();
      expect({ round, complaints }).toEqual({ round, complaints: [] });
    }
    expect(acknowledged).toBeGreaterThan(rounds * 5);
  } finally {
    await bench.remove();
  }
}, 120_000);
