/** A site plugin that does, at each message, what the subject says. For tests of the gateway, not for use. */
import { definePlugin, pass, reject, type Verdict } from '../../../gateway/plugins/api.ts';

const answers: Readonly<Record<string, () => unknown>> = {
  throws: () => {
    throw new Error('boom');
  },
  'throws later': async () => {
    await new Promise((resolve) => setTimeout(resolve, 50));
    throw new Error('boom');
  },
  'answers twice': () => ({
    // biome-ignore lint/suspicious/noThenProperty: an object that settles twice is the point
    then: (settle: (verdict: Verdict) => void) => [settle(reject('No')), settle(pass)],
  }),
  'never answers': () => new Promise(() => {}),
  'answers late': () => new Promise((resolve) => setTimeout(resolve, 1500, pass)),
  'answers nonsense': () => ({ word: 'maybe' }),
  'answers nothing': () => undefined,
  'holds the loop': () => {
    const end = performance.now() + 300;
    while (performance.now() < end);
    return pass;
  },
  // CWE-1333: the time doubles with each letter
  'meets a slow expression': () => (/^(?:a+)+$/.test(`${'a'.repeat(23)}!`) ? pass : pass),
  loops: () => {
    for (;;);
  },
};

export default definePlugin({
  name: 'misbehaving',
  options: {},
  deadline: '1s',
  start: () => ({
    asked: {
      message: (_session, message) => {
        const answer = answers[message.header('subject')[0] ?? ''];
        return (answer === undefined ? pass : answer()) as Verdict;
      },
    },
    told: {
      delivered() {
        throw new Error('boom');
      },
    },
  }),
});
