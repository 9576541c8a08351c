/**
 * Reading the configuration again while everything runs. It is checked as a whole
 * first: a file with a mistake changes nothing, and its mistake is said (CASES 115).
 */
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import { type Configuration, loadConfiguration, type Where } from './configuration.ts';
import type { MemberProcess } from './member-process.ts';
import type { Reloaded } from './settings-work.ts';

const answerMs = 10_000;

export interface ReloadOptions {
  readonly where: Where;
  readonly cwd: string;
  readonly before: Configuration;
  readonly members: readonly MemberProcess[];
  readonly log: Log;
  say(text: string): void;
}

/**
 * @returns The configuration that counts from now on: the old one where a member did not take the new one over.
 * @throws {Fault} `bad-config`: all stays as it was.
 */
export async function reloadConfiguration(
  options: ReloadOptions,
): Promise<{ readonly configuration: Configuration; readonly result: Reloaded }> {
  const { before, members, log, say } = options;
  let next: Configuration;
  try {
    next = loadConfiguration(options.where, options.cwd);
  } catch (error) {
    const { message } = Fault.from(error);
    log.error({ error: message }, 'configuration not reloaded');
    say(`postern: the configuration was not reloaded, all stays as it was: ${message}\n`);
    throw error;
  }
  const answers = await Promise.all(
    members.map(async (member) => ({ id: member.id, ...(await member.reload(answerMs)) })),
  );
  const failed = answers.flatMap(({ id, error }) => (error === undefined ? [] : [[id, error] as const]));
  const sorted = (keys: readonly string[]): string[] => [...new Set(keys)].sort();
  const result: Reloaded = {
    live: sorted(answers.flatMap(({ live }) => live)),
    atRestart: sorted([...answers.flatMap(({ atRestart }) => atRestart), ...ownChanges(before, next)]),
    failed: Object.fromEntries(failed),
  };
  if (failed.length === 0) log.info(result, 'configuration reloaded');
  else log.error(result, 'configuration reloaded');
  for (const [id, error] of failed) say(`postern: ${id} keeps its old configuration: ${error}\n`);
  return { configuration: failed.length === 0 ? next : before, result };
}

/** Settings that no member follows: read when it starts, and by the supervisor. */
function ownChanges(before: Configuration, next: Configuration): string[] {
  const old = before.cluster as Readonly<Record<string, unknown>>;
  return Object.entries(next.cluster)
    .filter(([key, value]) => value !== old[key])
    .map(([key]) => key);
}
