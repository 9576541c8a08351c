/** What all sessions of the SMTP door share. */
import type { Log } from '../../base/log.ts';
import type { Deadlines } from '../net/deadline.ts';
import type { TlsContexts } from '../net/tls-contexts.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { Router } from '../routing/router.ts';
import type { SaslOffer } from '../session/sasl-exchange.ts';
import type { GatewaySettings } from '../settings.ts';
import type { Haraka } from './haraka/haraka.ts';
import type { SpoolRoom } from './spool.ts';

/** `mx`: from other servers. `submission`: from users, STARTTLS first. `submissions`: over TLS from the first byte. */
export type SmtpRole = 'mx' | 'submission' | 'submissions';

export interface DoorShared {
  readonly settings: GatewaySettings;
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  readonly hostname: string;
  readonly tls: Pick<TlsContexts, 'startTls'>;
  readonly sasl: SaslOffer;
  readonly haraka: Haraka;
  readonly spools: SpoolRoom;
  readonly deadlines: Deadlines;
}
