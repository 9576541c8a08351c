/**
 * Has messages scored by a spamd: adds X-Spam-* header fields, refuses what
 * scores too high. Larger messages than `size_max` are not scored: spam is small,
 * and scoring costs processor time that grows with size. They pass, tagged so.
 *
 * There is no kept client for spamd among the npm packages, so the few lines of
 * the protocol (SPAMC/1.5) stand here: one request per connection, the message
 * streamed as the socket takes it, an answer of bounded size within a deadline.
 * A spamd that is down or answers nonsense is a failure of this plugin: `451`
 * unless the admin writes `on_failure = "pass"`.
 *
 * X-Spam-* fields the sender brought along are taken out (`keep_foreign`), so that a filter that looks for
 * `X-Spam-Flag: YES` anywhere in the header never takes a stranger's word.
 */
import net from 'node:net';
import { pipeline } from 'node:stream/promises';
import { definePlugin, type Message, reject, type Session, tag, type Verdict } from './api.ts';

/** Longest answer of spamd: a status line, headers, the names of the rules that hit. */
const answerBytesMax = 64 * 1024;

export interface SpamVerdict {
  readonly spam: boolean;
  readonly score: number;
  /** The score from which spamd itself calls a message spam. */
  readonly threshold: number;
  /** Rules that hit. */
  readonly tests: readonly string[];
}

export default definePlugin({
  name: 'spamassassin',
  deadline: '60s',
  onFailure: 'defer',
  sideBySide: true,
  options: {
    server: {
      kind: 'text',
      default: '127.0.0.1:783',
      pattern: /^(?:\/.+|[^\s/]+:\d{1,5})$/,
      doc: 'Where spamd listens: host:port, or the path of a Unix socket.',
    },
    user: {
      kind: 'text',
      default: '',
      pattern: /^[A-Za-z0-9._@-]{0,64}$/,
      doc: 'User whose preferences spamd uses. Empty: its own.',
    },
    reject_score: { kind: 'number', default: 15, doc: 'Messages that score as much or more are refused.' },
    quarantine: {
      kind: 'flag',
      default: false,
      doc: 'What spamd calls spam goes into the junk folder, below reject_score.',
    },
    keep_foreign: {
      kind: 'flag',
      default: false,
      doc: "Leave the sender's own X-Spam-* fields in the message.",
    },
    timeout: { kind: 'duration', default: '30s', min: '100ms', doc: 'Longest one check may take, in all.' },
    size_max: { kind: 'size', default: '512KiB', doc: 'Larger messages pass without a score.' },
    concurrent_max: { kind: 'count', default: 5, min: 1, doc: "Checks at once (spamd's --max-children)." },
    waiting_max: {
      kind: 'count',
      default: 200,
      doc: 'Messages that may wait for a check; one more is deferred.',
    },
  },
  start(options, { queue, count }) {
    const inTurn = queue(options.concurrent_max, options.waiting_max);
    const tagged = (
      headers: NonNullable<Verdict['headers']>,
      message: Message,
      rest: Partial<Verdict>,
    ): Verdict => {
      const foreign = message.names().filter((name) => /^x-spam-/i.test(name));
      const dropped = options.keep_foreign
        ? []
        : [...new Set(foreign)].slice(0, 50).map((name) => ({ name }));
      return { ...tag(headers), ...rest, ...(dropped.length === 0 ? {} : { dropFields: dropped }) };
    };
    return {
      asked: {
        async message(session, message) {
          if (message.size > options.size_max) {
            return tagged([['X-Spam-Status', 'No, not scored: larger than the limit for scoring']], message, {
              log: 'not scored: size',
            });
          }
          const verdict = await inTurn(() => askSpamd(session, message, options));
          count('scored');
          const tests = verdict.tests.join(',');
          const facts = `score=${verdict.score.toFixed(1)} required=${verdict.threshold.toFixed(1)}`;
          if (verdict.score >= options.reject_score) {
            count('refused');
            return reject('Message refused: it looks like spam', `${facts} tests=${tests.slice(0, 300)}`);
          }
          const quarantine = verdict.spam && options.quarantine;
          return tagged(
            [
              ...(verdict.spam ? ([['X-Spam-Flag', 'YES']] as const) : []),
              ['X-Spam-Score', verdict.score.toFixed(1)],
              [
                'X-Spam-Status',
                `${verdict.spam ? 'Yes' : 'No'}, ${facts} tests=${verdict.tests.join(', ') || 'none'}`,
              ],
            ],
            message,
            { score: verdict.score, ...(quarantine ? { quarantine, log: facts } : {}) },
          );
        },
      },
    };
  },
});

/**
 * One SYMBOLS request.
 * @throws {Error} When there is no whole, well-formed answer within `timeout`.
 */
async function askSpamd(
  session: Session,
  message: Message,
  options: { server: string; user: string; timeout: number },
): Promise<SpamVerdict> {
  const trace = Buffer.from(receivedLine(session), 'latin1');
  const head =
    `SYMBOLS SPAMC/1.5\r\nContent-length: ${trace.length + message.size}\r\n` +
    `${options.user === '' ? '' : `User: ${options.user}\r\n`}\r\n`;
  const socket = net.connect(endpointOf(options.server));
  socket.setNoDelay(true);
  const source = message.stream();
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<SpamVerdict>((resolve, fail) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      timer = setTimeout(() => fail(new Error(`no answer within ${options.timeout} ms`)), options.timeout);
      socket.on('error', fail);
      source.on('error', fail);
      socket.on('data', (chunk) => {
        bytes += chunk.length;
        if (bytes > answerBytesMax) fail(new Error('answer too long'));
        else chunks.push(chunk);
      });
      socket.on('end', () => {
        try {
          resolve(readSpamdAnswer(Buffer.concat(chunks).toString('latin1')));
        } catch (error) {
          fail(error);
        }
      });
      socket.on('close', () => fail(new Error('connection closed before the answer')));
      socket.write(head);
      socket.write(trace);
      // Ends the writing side when the message is through, as spamc does; the answer still comes.
      pipeline(source, socket).catch(() => {}); // socket and source report their own errors above
    });
  } finally {
    clearTimeout(timer);
    source.destroy();
    socket.destroy();
  }
}

/** What rules about the sending host look at: the message comes without a Received line of ours. */
function receivedLine(session: Session): string {
  const greeting = (session.greeting ?? 'unknown').replace(/[^\x21-\x7e]|[()]/g, '?').slice(0, 253);
  const address = session.client.address.includes(':')
    ? `IPv6:${session.client.address}`
    : session.client.address;
  const date = new Date(session.startedAtMs).toUTCString().replace('GMT', '+0000');
  return `Received: from ${greeting} (unknown [${address}])\r\n\tby postern with ESMTP;\r\n\t${date}\r\n`;
}

/**
 * Reads `SPAMD/1.1 0 EX_OK`, `Spam: True ; 15.3 / 5.0`, an empty line, `RULE_ONE,RULE_TWO`.
 * @throws {Error} for anything else.
 */
export function readSpamdAnswer(text: string): SpamVerdict {
  const headEnd = text.indexOf('\r\n\r\n');
  const lines = text.slice(0, headEnd === -1 ? 0 : headEnd).split('\r\n');
  const status = /^SPAMD\/\d\.\d (\d{1,3}) ([\x20-\x7e]{0,200})$/.exec(lines[0] ?? '');
  if (!status) throw new Error('not an answer of spamd');
  if (status[1] !== '0') throw new Error(`spamd says ${status[1]} ${status[2]}`);
  const body = text.slice(headEnd + 4);
  const field = (name: RegExp): string | undefined => lines.find((line) => name.test(line));
  const length = /^Content-length: ?(\d{1,9})$/i.exec(field(/^Content-length:/i) ?? '')?.[1];
  if (length !== undefined && body.length < Number(length)) throw new Error('answer cut short');
  const spam = /^Spam: (True|False|Yes|No) ; (-?\d{1,6}(?:\.\d{1,6})?) \/ (-?\d{1,6}(?:\.\d{1,6})?)$/i.exec(
    field(/^Spam:/i) ?? '',
  );
  if (!spam) throw new Error('answer without a score');
  const tests = body.split(/[,\s]+/).filter((test) => /^[A-Za-z0-9_]{1,80}$/.test(test));
  return { spam: /true|yes/i.test(spam[1]!), score: Number(spam[2]), threshold: Number(spam[3]), tests };
}

function endpointOf(server: string): { path: string } | { host: string; port: number } {
  if (server.startsWith('/')) return { path: server };
  const colon = server.lastIndexOf(':');
  return { host: server.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(server.slice(colon + 1)) };
}
