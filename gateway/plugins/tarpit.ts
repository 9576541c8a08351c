/**
 * Makes misbehaving clients wait: the more a network has been refused lately, the
 * longer it waits for each next answer. Slow answers cost us a timer and cost a
 * spam program its time. A client nobody refused is never held back.
 */
import { definePlugin, pass, throttle, type Verdict } from './api.ts';

export default definePlugin({
  name: 'tarpit',
  options: {
    step: {
      kind: 'duration',
      default: '500ms',
      min: '10ms',
      doc: 'Wait for each refusal within the window.',
    },
    wait_max: { kind: 'duration', default: '15s', max: '30s', doc: 'Longest wait for one answer.' },
    free: { kind: 'count', default: 2, doc: 'Refusals that cost nothing.' },
    window: { kind: 'duration', default: '10m', min: '1s', doc: 'How long a refusal counts.' },
    held_max: { kind: 'count', default: 1000, min: 1, doc: 'Clients held at once; one more is not held.' },
  },
  start(options, { countWithin, gauge }) {
    const refusals = countWithin('tarpit-refusals', options.window);
    const held = gauge('tarpit-held');
    const wait = ({ client }: { client: { network: string } }): Verdict => {
      const counted = Math.max(0, refusals.of(client.network) - options.free);
      const waitMs = Math.min(options.wait_max, counted * options.step);
      if (waitMs === 0 || held.of('all') >= options.held_max) return pass;
      held.enter('all');
      setTimeout(() => held.leave('all'), waitMs).unref();
      return throttle(waitMs, `${counted} refusals`);
    };
    return {
      told: {
        refused: ({ client }) => refusals.add(client.network),
        loginFailed: ({ client }) => refusals.add(client.network),
      },
      asked: { connect: wait, greeting: wait, login: wait, sender: wait, recipient: wait },
    };
  },
});
