/**
 * The rules of the house: which floor may import which, who may open sockets, and
 * where nothing synchronous may touch the file system. Read from the source text:
 * the rules are about what stands there, not about what runs.
 */

/** A source file: its path from the project's root, and its text. */
export interface Source {
  readonly file: string;
  readonly text: string;
}

export interface Breach {
  readonly rule: string;
  readonly file: string;
  readonly line: number;
  readonly what: string;
}

/** Floors, from the top. A file imports from its own floor and from those below it, never upwards. */
const floors: readonly (readonly string[])[] = [
  ['postern.ts', 'command/'],
  ['gateway/', 'backend/'],
  ['cluster-protocol/', 'certs/'],
  ['mailwire/'],
  ['base/'],
];

export const linesMax = 400;

/** Modules of Node that open sockets. */
const socketModules = ['net', 'tls', 'dgram', 'http', 'https', 'http2'];

/**
 * Files that may call synchronous functions of `node:fs`: they run before a member serves, or in a
 * process that serves nobody. Each with its reason.
 */
export const synchronousAllowed: Readonly<Record<string, string>> = {
  'certs/': 'certificates are read and made at start-up and by the command',
  'command/': 'the command serves nobody',
  'postern.ts': 'the command serves nobody',
  'gateway/smtp/haraka/home.ts': 'before Haraka is loaded, at start-up',
  'gateway/plugin-host/watchdog.ts': 'in a thread of its own, as the last thing a process does',
  'backend/store/search/index-database.ts':
    'in a thread of its own: what stalls there is searched without it',
  'cluster-protocol/registry/embedded-server.ts': 'at the start of the supervisor',
  'cluster-protocol/registry/embedded-store.ts': 'at the start of the supervisor',
  'cluster-protocol/revoke.ts': '/proc is no disk: it cannot stall',
};

export const rules: Readonly<Record<string, (source: Source) => Omit<Breach, 'rule' | 'file'>[]>> = {
  'imports run downwards only': ({ file, text }) => {
    const own = floorOf(file);
    return importsOf(file, text)
      .filter(({ target }) => own !== undefined && (floorOf(target) ?? own) < own)
      .map(({ line, target }) => ({ line, what: `imports ${target} from above` }));
  },
  'gateway and backend never import each other': ({ file, text }) => {
    const other = file.startsWith('gateway/')
      ? 'backend/'
      : file.startsWith('backend/')
        ? 'gateway/'
        : undefined;
    if (other === undefined) return [];
    return found(file, text, (target) => target.startsWith(other));
  },
  'plugins import gateway/plugins/api.ts, files of a folder of their own, and nothing else of ours': ({
    file,
    text,
  }) => {
    if (!file.startsWith('gateway/plugins/') || file === 'gateway/plugins/api.ts') return [];
    const [, name = ''] = /^gateway\/plugins\/([a-z0-9-]+)[./]/.exec(file) ?? [];
    const folder = `gateway/plugins/${name}/`;
    return found(
      file,
      text,
      (target, own) => own && target !== 'gateway/plugins/api.ts' && !target.startsWith(folder),
    );
  },
  'the plugin API imports nothing of ours but types': ({ file, text }) => {
    if (file !== 'gateway/plugins/api.ts') return [];
    return importsOf(file, text)
      .filter(({ own, typeOnly }) => own && !typeOnly)
      .map(({ line, target }) => ({ line, what: `imports ${target}, not only as a type` }));
  },
  'cluster-protocol opens no socket outside its registry drivers': ({ file, text }) => {
    if (!file.startsWith('cluster-protocol/') || file.startsWith('cluster-protocol/registry/')) return [];
    return importsOf(file, text)
      .filter(({ target, typeOnly }) => !typeOnly && socketModules.includes(target.replace(/^node:/, '')))
      .map(({ line, target }) => ({ line, what: `imports ${target}` }));
  },
  'only gateway/smtp knows Haraka': ({ file, text }) => {
    if (file.startsWith('gateway/smtp/')) return [];
    const named = /(?:require|resolve|import)\(\s*['"](?:Haraka|haraka-)/;
    return [
      ...found(file, text, (target) => /^(?:Haraka|haraka-|address-rfc)/.test(target)),
      ...matches(text, named).map((line) => ({ line, what: 'loads Haraka' })),
    ];
  },
  'nothing synchronous on the file system after start-up': ({ file, text }) => {
    if (!/^(?:gateway|backend|cluster-protocol|mailwire)\//.test(file)) return [];
    if (Object.keys(synchronousAllowed).some((place) => file.startsWith(place))) return [];
    const call =
      /\b(?:readFile|writeFile|appendFile|open|close|read|write|stat|lstat|fstat|readdir|mkdir|mkdtemp|rm|rmdir|unlink|rename|link|symlink|exists|access|fsync|fdatasync|copyFile|truncate|ftruncate|chmod|utimes|realpath|opendir)Sync\s*\(/;
    return matches(text, call).map((line) => ({ line, what: 'calls a synchronous function of node:fs' }));
  },
  'a file stays under 400 lines': ({ text }) => {
    const lines = text.split('\n').length - 1;
    return lines > linesMax ? [{ line: lines, what: `has ${lines} lines: look for the second noun` }] : [];
  },
  'a file opens with why it exists': ({ text }) =>
    /^(?:#!.*\n)?\/[*/]/.test(text) ? [] : [{ line: 1, what: 'does not open with a comment' }],
};

/** Every breach of every rule. */
export function breaches(sources: readonly Source[]): Breach[] {
  return sources.flatMap((source) =>
    Object.entries(rules).flatMap(([rule, check]) =>
      check(source).map((breach) => ({ rule, file: source.file, ...breach })),
    ),
  );
}

function floorOf(file: string): number | undefined {
  const index = floors.findIndex((places) =>
    places.some((place) => (place.endsWith('/') ? file.startsWith(place) : file === place)),
  );
  return index === -1 ? undefined : index;
}

interface Import {
  /** Path from the project's root for a file of ours; else as it stands. */
  readonly target: string;
  readonly own: boolean;
  readonly typeOnly: boolean;
  readonly line: number;
}

/** Imports of every form: static, `export … from`, dynamic, `import('…')` as a type. */
function importsOf(file: string, text: string): Import[] {
  const code = withoutComments(text);
  const statement = /\b(import|export)\b(\s+type\b)?([^'"();]*?\bfrom\s*)?\s*(\(?)\s*['"]([^'"\n]+)['"]/g;
  const seen: Import[] = [];
  for (const match of code.matchAll(statement)) {
    const [, word, type, , bracket, specifier] = match;
    if (word === 'export' && match[3] === undefined) continue;
    const own = specifier!.startsWith('.');
    const before = code.slice(Math.max(0, match.index - 200), match.index);
    // `import('x').Y` where a type stands is erased like `import type`.
    const asType =
      bracket === '(' &&
      /(?::|\bas|<|\||&|=>|=)\s*$/.test(before) &&
      !/\b(?:const|let|var)\b[^;\n]*=\s*$/.test(before);
    seen.push({
      target: own ? joined(file, specifier!) : specifier!,
      own,
      typeOnly: type !== undefined || asType,
      line: code.slice(0, match.index).split('\n').length,
    });
  }
  return seen;
}

function found(
  file: string,
  text: string,
  bad: (target: string, own: boolean) => boolean,
): Omit<Breach, 'rule' | 'file'>[] {
  return importsOf(file, text)
    .filter(({ target, own }) => bad(target, own))
    .map(({ line, target }) => ({ line, what: `imports ${target}` }));
}

function matches(text: string, pattern: RegExp): number[] {
  return withoutComments(text)
    .split('\n')
    .flatMap((line, index) => (pattern.test(line) ? [index + 1] : []));
}

/** Comments blanked out, line for line. A string that holds `//` after a colon (an URL) is left alone. */
function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(
      /(^|[^:'"`\\])\/\/[^\n]*/g,
      (comment, first: string) => first + ' '.repeat(comment.length - first.length),
    );
}

/** `gateway/smtp/x.ts` + `../net/y.ts` → `gateway/net/y.ts` */
function joined(file: string, specifier: string): string {
  const parts = file.split('/').slice(0, -1);
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}
