/** Arguments that take their value from an earlier answer of the same request (RFC 8620 3.7). */
import { MethodError } from './jmap-errors.ts';

/** [name, arguments or answer, call id] */
export type Invocation = readonly [name: string, args: Record<string, unknown>, id: string];

const pathCharsMax = 255;
/** Values a `*` may gather. */
const gatheredMax = 10_000;

/** @throws {MethodError} `invalidArguments`, `invalidResultReference` */
export function resolveReferences(
  args: Record<string, unknown>,
  answers: readonly Invocation[],
): Record<string, unknown> {
  const resolved: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(args)) {
    if (!name.startsWith('#')) {
      resolved[name] = value;
      continue;
    }
    const plain = name.slice(1);
    if (Object.hasOwn(args, plain)) throw new MethodError('invalidArguments', `${plain} is there twice`);
    resolved[plain] = resolve(value, answers);
  }
  return resolved;
}

function resolve(reference: unknown, answers: readonly Invocation[]): unknown {
  const wrong = (why: string): MethodError => new MethodError('invalidResultReference', why);
  if (typeof reference !== 'object' || reference === null) throw wrong('not a reference');
  const { resultOf, name, path } = reference as Record<string, unknown>;
  if (typeof resultOf !== 'string' || typeof name !== 'string' || typeof path !== 'string') {
    throw wrong('not a reference');
  }
  if (path.length > pathCharsMax) throw wrong('the path is too long');
  const found = answers.find((answer) => answer[2] === resultOf);
  if (found === undefined || found[0] !== name) throw wrong('there is no such answer');
  const value = follow(found[1], path);
  if (value === undefined) throw wrong('the path leads nowhere');
  return value;
}

/** A JSON pointer (RFC 6901) in which `*` stands for every entry of an array. `undefined`: leads nowhere. */
export function follow(root: unknown, path: string): unknown {
  if (path === '') return root;
  if (!path.startsWith('/')) return undefined;
  const words = path
    .slice(1)
    .split('/')
    .map((word) => word.replaceAll('~1', '/').replaceAll('~0', '~'));
  return descend(root, words, 0);
}

function descend(value: unknown, words: readonly string[], at: number): unknown {
  const word = words[at];
  if (word === undefined) return value;
  if (Array.isArray(value)) {
    if (word !== '*') return /^\d{1,9}$/.test(word) ? descend(value[Number(word)], words, at + 1) : undefined;
    const gathered: unknown[] = [];
    for (const entry of value) {
      const below = descend(entry, words, at + 1);
      if (below === undefined) return undefined;
      if (Array.isArray(below)) gathered.push(...below.slice(0, gatheredMax));
      else gathered.push(below);
      if (gathered.length > gatheredMax) return undefined;
    }
    return gathered;
  }
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, word)) return undefined;
  return descend((value as Record<string, unknown>)[word], words, at + 1);
}
