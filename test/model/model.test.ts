/** Short plays in every test run; the long ones are `npm run model -- --minutes N [--cluster | --mbox]`. */
import { describe, expect, test } from '@jest/globals';
import { startCluster } from '../support/cluster.ts';
import { emptyAccount, possible } from './mailbox-model.ts';
import { play } from './play.ts';
import { changedOf } from './resync.ts';
import { shortened } from './shorten.ts';
import { clusterStage, storeStage } from './stages.ts';

const scenes = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe('several sessions of one account', () => {
  test.each([
    { seed: 1, restartEvery: 0 },
    { seed: 2, restartEvery: 0 },
    { seed: 33, restartEvery: 40 },
    { seed: 54, restartEvery: 25 },
    { seed: 7, restartEvery: 30, format: 'mbox' as const },
  ])('see what the model sees: %o', async ({ seed, restartEvery, format }) => {
    const stage = await storeStage(format);
    try {
      const report = await play(stage, { seed, scenes: scenes(200), sessions: 4, restartEvery });
      expect(report.finding).toBeUndefined();
      expect(report.commands).toBeGreaterThan(200);
      if (restartEvery > 0) expect(report.restarts).toBeGreaterThan(0);
    } finally {
      await stage.close();
    }
  });

  test('see it through gateway and backend, which is killed meanwhile', async () => {
    const cluster = await startCluster();
    try {
      const options = { seed: 7, scenes: scenes(60), sessions: 3, restartEvery: 20 };
      const report = await play(clusterStage(cluster, cluster.account), options);
      expect(report.finding).toBeUndefined();
      expect(report.restarts).toBeGreaterThan(0);
    } finally {
      await cluster.stop();
    }
  });
});

describe('the model test itself', () => {
  test('a store that forgets an expunge is found, and the play becomes short', async () => {
    const give = async (chosen: readonly number[]) => {
      const stage = await storeStage();
      const forgetful = {
        ...stage,
        // A wire that does not pass on EXPUNGE answers.
        async connect() {
          const wire = await stage.connect();
          const whole = wire.until.bind(wire);
          wire.until = async (done) => (await whole(done)).replace(/^\* \d+ EXPUNGE\r\n/gm, '');
          return wire;
        },
      };
      try {
        return await play(forgetful, { seed: 5, scenes: chosen, sessions: 3, restartEvery: 0 });
      } finally {
        await stage.close();
      }
    };
    const report = await give(scenes(200));
    expect(report.finding).toBeDefined();
    const short = await shortened(report, scenes(200), give, 5000);
    expect(short.finding).toBeDefined();
    expect(short.commands).toBeLessThan(report.commands);
  });

  test('a resynchronisation that tells what had not changed is found', () => {
    const cached = { uidValidity: 1, modseq: 7, entries: [{ uid: 3, flags: '()' }] };
    expect(
      changedOf(cached, ['* VANISHED (EARLIER) 1:3', '* 1 FETCH (UID 5 MODSEQ (8) FLAGS (\\Seen))']),
    ).toEqual([{ uid: 5, flags: '(\\seen)' }]);
    expect(() => changedOf(cached, ['* 1 FETCH (UID 3 MODSEQ (7) FLAGS ())'])).toThrow('not of after 7');
  });

  test('an answer that was given has to be explained', () => {
    const action = { kind: 'append', name: 'INBOX', flags: [], id: 'x' } as const;
    expect(possible(emptyAccount, action).map((step) => step.outcome)).toEqual(['OK 1']);
    expect(possible(emptyAccount, { ...action, name: 'A' }).map((step) => step.outcome)).toEqual(['NO']);
  });
});
