/** What every protocol knows of a client, and what plugins get to see of it. */

export type Protocol = 'smtp' | 'submission' | 'imap' | 'pop3' | 'http';

export interface TlsFacts {
  /** `TLSv1.3` */
  readonly version: string;
  readonly cipher: string;
  readonly serverName: string | undefined;
  readonly alpn: string | undefined;
}

export interface Client {
  /** Canonical: an IPv4 address where one is carried (`::ffff:a.b.c.d`, `64:ff9b::/96`, 6to4); else IPv6 in RFC 5952 form without zone. */
  readonly address: string;
  readonly port: number;
  /** What is counted: `192.0.2.1`, or the /64 of an IPv6 address: `2001:db8:1:2::/64`. */
  readonly network: string;
  /** The wider count: `192.0.2.0/24` or `2001:db8:1::/48`. */
  readonly wideNetwork: string;
}

export interface Session {
  /** Trace id: stands in every log line of this connection and of its messages. */
  readonly id: string;
  readonly protocol: Protocol;
  readonly client: Client;
  /** Where it arrived: `[::]:2525`. */
  readonly listener: string;
  readonly startedAtMs: number;
  readonly tls: TlsFacts | undefined;
  /** HELO/EHLO name of SMTP; otherwise undefined. */
  readonly greeting: string | undefined;
  /** Canonical address after login. */
  readonly account: string | undefined;
}

/** The gateway's own view: doors change it, plugins cannot. */
export interface MutableSession extends Session {
  tls: TlsFacts | undefined;
  greeting: string | undefined;
  account: string | undefined;
}
