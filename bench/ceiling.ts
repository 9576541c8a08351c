/**
 * A proxy's own ceiling: logins through it to a server that says yes to all.
 * Ours is the IMAP door with chain, router and links before an owner that
 * stores nothing (`imap-alone.ts`); the peer is nginx mail before `fakeimap`.
 */
import { aloneBase } from './peers.ts';
import { withDoor } from './postern.ts';
import { load, type Measure, numberIn } from './sides.ts';

export const proxyCeiling = (tls: boolean): Measure => ({
  work: `logins through the proxy alone, ${tls ? 'TLS' : 'plain'}`,
  unit: 'logins/s',
  peer: 'nginx mail',
  mark: { atLeastTimes: 1 },
  peers: ['nginx-alone'],
  ours: (bench) =>
    withDoor('imap-alone.ts', async ([plain = 0, secure = 0]) => {
      const side = { host: '127.0.0.1', port: tls ? secure : plain, user: 'u%d@example.test', tls };
      // Warmed by a run of its own: what is measured is not the compiler.
      await load(bench, 'login', side);
      return numberIn(await load(bench, 'login', side), 'per_s');
    }),
  theirs: async (bench) => {
    const port = aloneBase + (tls ? 996 : 146);
    return numberIn(await load(bench, 'login', { host: '127.0.0.1', port, user: 'u%d', tls }), 'per_s');
  },
});
