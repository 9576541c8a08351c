/**
 * The log: JSON lines by pino, one structured line per connection, message and
 * login. A `trace` id follows a message from the SMTP client to the file.
 * Control characters are escaped by JSON; long values are cut here, so that no
 * client can write more than one record or a huge one (CWE-117).
 */
import { mkdirSync, openSync } from 'node:fs';
import path from 'node:path';
import { destination, type Logger as PinoLogger, pino } from 'pino';

export type Log = Pick<PinoLogger, 'debug' | 'info' | 'warn' | 'error' | 'child'>;

/** Longest text value in a log record, in characters. */
export const logValueCharsMax = 512;

/** Field names whose values never reach the log. */
const secrets = ['password', 'pass', 'auth', 'credentials', 'token', 'secret', 'authorization'];
const isSecret: ReadonlySet<string> = new Set(secrets);
const hide = (): string => '(hidden)';
/** At the top level of a record, and in what a child log adds to each. pino's own `redact` costs more than the line. */
const hiders = Object.fromEntries(secrets.map((name) => [name, hide]));

/** @throws {Error} of the file system, when `file` cannot be opened */
export function openLog(options: { member: string; file?: string; level?: string }): Log {
  const sink =
    options.file === undefined
      ? destination({ dest: 2, sync: false })
      : destination({
          ...{ dest: openFile(options.file), sync: false },
          // Lines leave together: one write each costs more than the rest of a login.
          ...{ minLength: 12_288, periodicFlush: 100 },
        });
  return pino(
    {
      level: options.level ?? 'info',
      base: { member: options.member },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: cleanRecord },
      serializers: { ...hiders, err: (error: Error) => withoutSecrets(pino.stdSerializers.err(error)) },
    },
    sink,
  );
}

/**
 * Opened here and now, at the start: a process that has to end before pino had opened the file
 * would throw in its exit handler, and live on.
 */
function openFile(file: string): number {
  mkdirSync(path.dirname(file), { recursive: true });
  return openSync(file, 'a', 0o640);
}

/** Resolves when what was logged so far is in the file: before the process ends. */
export function flushLog(log: Log): Promise<void> {
  const { flush } = log as Partial<PinoLogger>;
  return new Promise((resolve) => {
    if (flush === undefined) resolve();
    else flush.call(log, () => resolve());
  });
}

/** A log that keeps quiet: for tests and pure parts that want one. */
export const silentLog: Log = pino({ level: 'silent' });

/** Long values cut, secrets one level down hidden; a copy where that changes anything, as the record is the caller's. */
function cleanRecord(record: Record<string, unknown>): Record<string, unknown> {
  let clean = record;
  for (const key in record) {
    const value = record[key];
    let next = value;
    if (typeof value === 'string') next = printable(value);
    // an error is made into a record by its serializer, after this
    else if (typeof value === 'object' && value !== null && key !== 'err') next = withoutSecrets(value);
    if (next === value) continue;
    if (clean === record) clean = { ...record };
    clean[key] = next;
  }
  return clean;
}

/** A copy where there is something to hide. */
function withoutSecrets(value: object): object {
  let hidden: Record<string, unknown> | undefined;
  for (const key in value) {
    if (!isSecret.has(key)) continue;
    hidden ??= { ...value };
    hidden[key] = '(hidden)';
  }
  return hidden ?? value;
}

const unprintable = /[\u007f-\u009f\u2028\u2029]/;

/** Cut to `logValueCharsMax`, with C1 controls and line separators (which JSON leaves alone) escaped. */
export function printable(value: string): string {
  const cut =
    value.length > logValueCharsMax ? `${value.slice(0, logValueCharsMax)}…(${value.length})` : value;
  if (!unprintable.test(cut)) return cut;
  return cut.replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
