/**
 * An owner that says yes: the backend's real link server with an IMAP service
 * that checks nothing and stores nothing. `node bench/yes-owner.ts SOCKET`.
 */

import { openLinkServer } from '../backend/cluster/link-server.ts';
import type { ServiceContext, SessionService } from '../backend/serve/service.ts';
import { silentLog } from '../base/log.ts';
import { linkHeader, linkStatus } from '../cluster-protocol/link.ts';

const selected =
  '* FLAGS (\\Seen)\r\n* 1000 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1001] ok\r\n';

const imap: SessionService = async (stream) => {
  stream.respond({ ':status': linkStatus.accepted, [linkHeader.capability]: 'IMAP4rev1 LITERAL+ IDLE' });
  let line = '';
  stream.on('data', (chunk: Buffer) => {
    line += chunk.toString('latin1');
    for (let end = line.indexOf('\r\n'); end >= 0; end = line.indexOf('\r\n')) {
      const [tag, command] = line.slice(0, end).split(' ');
      line = line.slice(end + 2);
      if (command === 'LOGOUT') stream.end(`* BYE bye\r\n${tag} OK bye\r\n`);
      else stream.write(`${command === 'SELECT' ? selected : ''}${tag} OK done\r\n`);
    }
  });
};

const context = {
  log: silentLog,
  owns: () => ({ ok: true, epoch: Number.MAX_SAFE_INTEGER }),
} as unknown as ServiceContext;
const path = process.argv[2] ?? '';
const sessions = { kind: 'sessions', path: `${path}-sessions`, socketsMax: 10_000 } as const;
await openLinkServer([{ kind: 'unix', path }, sessions], { imap }, context);
console.log('listening');
