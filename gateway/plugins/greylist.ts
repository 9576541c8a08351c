/**
 * Greylisting (RFC 6647): a sender that is met for the first time is told to come
 * again, which mail servers do and most spam programs do not. What is remembered
 * is (wide network, sender's domain, recipient); a network that came again often
 * enough is let through for good.
 *
 * What was seen stays in the memory of one gateway: after a restart, or at
 * another gateway, a sender may have to come again once more.
 */
import { defer, definePlugin, pass } from './api.ts';

const knownMax = 200_000;

export default definePlugin({
  name: 'greylist',
  options: {
    wait: { kind: 'duration', default: '5m', min: '1s', doc: 'How long a new sender has to wait.' },
    within: { kind: 'duration', default: '1d', min: '1m', doc: 'Until when it has to have come again.' },
    remember: { kind: 'duration', default: '36d', min: '1h', doc: 'How long who came again is remembered.' },
    trust_after: {
      kind: 'count',
      default: 5,
      min: 1,
      doc: 'Times a network has to have come again before it is not asked to any more.',
    },
  },
  start(options, { countWithin, count }) {
    const returned = countWithin('greylist-returned', options.remember);
    const first = new Map<string, number>();
    const passed = countWithin('greylist-passed', options.remember);
    return {
      asked: {
        recipient({ protocol, client }, to, from) {
          if (protocol !== 'smtp') return pass;
          if (returned.of(client.wideNetwork) >= options.trust_after) return pass;
          const domain = from.slice(from.lastIndexOf('@') + 1).toLowerCase();
          const key = `${client.wideNetwork} ${domain} ${to}`;
          if (passed.of(key) > 0) return pass;
          const nowMs = performance.now();
          const sinceMs = first.get(key);
          const waitedMs = sinceMs === undefined ? -1 : nowMs - sinceMs;
          if (waitedMs >= options.wait && waitedMs <= options.within) {
            first.delete(key);
            passed.add(key);
            returned.add(client.wideNetwork);
            count('returned');
            return pass;
          }
          if (sinceMs === undefined || waitedMs > options.within) {
            first.delete(key);
            if (first.size >= knownMax) first.delete(first.keys().next().value!);
            first.set(key, nowMs);
          }
          count('deferred');
          return defer(
            'Greylisted, try again later',
            `first seen ${Math.max(0, Math.round(waitedMs / 1000))} s ago`,
          );
        },
      },
    };
  },
});
