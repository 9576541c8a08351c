/**
 * Has messages judged by an rspamd, over its HTTP protocol (`POST /checkv2`), and
 * does what it says: greylist, add a header, rewrite nothing, refuse. What rspamd
 * is told of the session are the facts its rules need: address, greeting, sender,
 * recipients, user.
 */
import type { Readable } from 'node:stream';
import { Pool } from 'undici';
import { defer, definePlugin, reject, type Session, type Verdict } from './api.ts';

const answerBytesMax = 256 * 1024;

interface Answer {
  readonly action: string;
  readonly score: number;
  readonly required_score: number;
  readonly symbols?: Readonly<Record<string, unknown>>;
}

export default definePlugin({
  name: 'rspamd',
  deadline: '60s',
  onFailure: 'defer',
  sideBySide: true,
  options: {
    url: {
      kind: 'text',
      default: 'http://127.0.0.1:11333',
      pattern: /^https?:\/\/[^\s/]+$/,
      doc: "Where rspamd's normal worker listens.",
    },
    password: { kind: 'text', default: '', doc: 'For an rspamd that asks for one.' },
    timeout: { kind: 'duration', default: '30s', min: '100ms', doc: 'Longest one check may take, in all.' },
    size_max: { kind: 'size', default: '50MiB', doc: 'Larger messages pass without a check.' },
    quarantine: {
      kind: 'flag',
      default: true,
      doc: '"add header" and "rewrite subject" mean the junk folder.',
    },
    concurrent_max: { kind: 'count', default: 20, min: 1, doc: 'Checks at once.' },
    waiting_max: {
      kind: 'count',
      default: 200,
      doc: 'Messages that may wait for a check; one more is deferred.',
    },
  },
  start(options, { queue, count, stopped }) {
    const inTurn = queue(options.concurrent_max, options.waiting_max);
    const pool = new Pool(options.url, { connections: options.concurrent_max, pipelining: 1 });
    stopped.addEventListener('abort', () => void pool.destroy().catch(() => {}), { once: true });

    const check = async (headers: Record<string, string | string[]>, body: Readable): Promise<Answer> => {
      const { statusCode, body: answer } = await pool.request({
        path: '/checkv2',
        method: 'POST',
        headers,
        body,
        signal: AbortSignal.timeout(options.timeout),
        headersTimeout: options.timeout,
        bodyTimeout: options.timeout,
      });
      const text = await boundedText(answer);
      if (statusCode !== 200) throw new Error(`rspamd says ${statusCode}`);
      const read = JSON.parse(text) as Partial<Answer>;
      if (typeof read.action !== 'string' || typeof read.score !== 'number')
        throw new Error('not an answer of rspamd');
      return { required_score: 0, ...read } as Answer;
    };

    return {
      asked: {
        async message(session, message): Promise<Verdict> {
          if (message.size > options.size_max) return { word: 'pass', log: 'not checked: size' };
          const { from, to } = message.envelope;
          const headers = {
            ...factsOf(session, options.password),
            from: `<${from}>`,
            rcpt: to.slice(0, 100).map((address) => `<${address}>`),
            'content-length': String(message.size),
          };
          const { action, score, required_score, symbols } = await inTurn(() =>
            check(headers, message.stream()),
          );
          count('checked');
          const names = Object.keys(symbols ?? {}).filter((name) => /^[A-Za-z0-9_]{1,80}$/.test(name));
          const facts = `score=${score.toFixed(1)} required=${required_score.toFixed(1)}`;
          const log = `${action}: ${facts} ${names.slice(0, 30).join(',')}`;
          const fields = [
            ['X-Rspamd-Score', score.toFixed(1)],
            ['X-Rspamd-Action', action],
          ] as const;
          switch (action) {
            case 'no action':
              return { word: 'pass', headers: fields, score };
            case 'add header':
            case 'rewrite subject':
              return {
                word: 'pass',
                headers: [...fields, ['X-Spam-Flag', 'YES']],
                score,
                quarantine: options.quarantine,
                log,
              };
            case 'greylist':
            case 'soft reject':
              return defer('Try again later', log);
            case 'reject':
              return reject('Message refused: it looks like spam', log);
            default:
              throw new Error(`rspamd asks for "${action.slice(0, 50)}"`);
          }
        },
      },
    };
  },
});

function factsOf(session: Session, password: string): Record<string, string> {
  return {
    ip: session.client.address,
    ...(session.greeting === undefined ? {} : { helo: session.greeting }),
    ...(session.account === undefined ? {} : { user: session.account }),
    ...(password === '' ? {} : { password }),
    'queue-id': session.id,
  };
}

async function boundedText(answer: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    bytes += chunk.length;
    if (bytes > answerBytesMax) throw new Error('answer too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
