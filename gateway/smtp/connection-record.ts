/** The one log line of an SMTP connection. */
import type { Session } from '../session/session.ts';

export interface ConnectionCounts {
  readonly commands: number;
  readonly errors: number;
  readonly refusedRecipients: number;
  readonly messages: number;
  readonly accepted: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** @param end  Why it ended. */
export function connectionRecord(session: Session, counts: ConnectionCounts, end: string): object {
  return {
    trace: session.id,
    protocol: session.protocol,
    client: session.client.address,
    port: session.client.port,
    listener: session.listener,
    tls: session.tls && `${session.tls.version} ${session.tls.cipher}`,
    helo: session.greeting,
    account: session.account,
    ...counts,
    ms: Date.now() - session.startedAtMs,
    end,
  };
}
