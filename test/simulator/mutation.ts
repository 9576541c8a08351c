/**
 * Puts a mutant into a copy of the product's pure code and loads the simulator
 * over it: nothing in the product knows of mutants.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Mutant } from './mutants.ts';
import type { Play } from './play.ts';
import type { ScheduleResult } from './schedule.ts';

const project = path.resolve(import.meta.dirname, '../..');
const copied = ['base', 'cluster-protocol', 'test/simulator'];

export interface Simulator {
  runSchedule(seed: number): ScheduleResult;
  runPlay(play: Play, tell?: (line: string) => void): ScheduleResult;
}

/**
 * The simulator over the mutant.
 * @throws {Error} when the text the mutant replaces does not stand in its file exactly once
 */
export async function simulatorOver(mutant: Mutant): Promise<Simulator> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'postern-mutant-'));
  try {
    for (const part of copied)
      await cp(path.join(project, part), path.join(directory, part), { recursive: true });
    await writeFile(path.join(directory, 'package.json'), '{ "type": "module" }\n');
    const file = path.join(directory, 'cluster-protocol', mutant.file);
    const parts = (await readFile(file, 'utf8')).split(mutant.from);
    if (parts.length !== 2)
      throw new Error(
        `mutant ${mutant.name}: its text stands ${parts.length - 1} times in cluster-protocol/${mutant.file}`,
      );
    await writeFile(file, parts.join(mutant.to));
    return await import(pathToFileURL(path.join(directory, 'test/simulator/schedule.ts')).href);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
