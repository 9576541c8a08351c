/** What an admin can set about gateways. */
import type { SettingsTable, ValuesOf } from '../base/settings.ts';

export const gatewaySettings = {
  hostname: {
    kind: 'text',
    default: '',
    pattern: /^[A-Za-z0-9.-]{0,253}$/,
    doc: "The name gateways greet with. Empty: the machine's own name.",
  },
  'listen.smtp': {
    kind: 'addresses',
    default: ['[::]:2525'],
    doc: 'Mail from other servers (MX). IPv4 clients arrive on [::] too.',
  },
  'listen.submission': {
    kind: 'addresses',
    default: ['[::]:2587'],
    doc: 'Mail from users: STARTTLS, then AUTH (RFC 6409).',
  },
  'listen.submissions': {
    kind: 'addresses',
    default: ['[::]:2465'],
    doc: 'Mail from users over TLS from the first byte (RFC 8314).',
  },
  'listen.imap': { kind: 'addresses', default: ['[::]:2143'], doc: 'IMAP with STARTTLS.' },
  'listen.imaps': { kind: 'addresses', default: ['[::]:2993'], doc: 'IMAP over TLS.' },
  'listen.pop3': { kind: 'addresses', default: ['[::]:2110'], doc: 'POP3 with STLS.' },
  'listen.pop3s': { kind: 'addresses', default: ['[::]:2995'], doc: 'POP3 over TLS.' },
  'listen.https': { kind: 'addresses', default: ['[::]:8443'], doc: 'HTTPS: JMAP.' },
  'listen.health': {
    kind: 'addresses',
    default: ['127.0.0.1:2880'],
    doc: '/healthz and /metrics, without TLS: keep it local. Further gateways of a machine count the port up.',
  },
  'gateway.count': {
    kind: 'count',
    default: 1,
    min: 0,
    max: 256,
    doc: 'Gateway members on this machine; one uses one processor core.',
  },
  'gateway.drain': {
    kind: 'duration',
    default: '3s',
    max: '10m',
    doc: 'How long sessions may go on after the gateway was told to stop.',
  },
  'tls.certificate': {
    kind: 'path',
    default: '',
    doc: "PEM file with certificate and chain. Empty: one made by the cluster's own CA.",
  },
  'tls.key': { kind: 'path', default: '', doc: 'PEM file with its private key.' },
  'tls.minimum': {
    kind: 'choice',
    default: 'TLSv1.2',
    choices: ['TLSv1.2', 'TLSv1.3'],
    doc: 'Oldest TLS version that is spoken.',
  },
  'login.plaintext': {
    kind: 'flag',
    default: false,
    doc: 'Allow passwords without TLS. Only for tests and closed networks.',
  },
  'net.proxy_from': {
    kind: 'texts',
    default: [],
    doc: 'Balancers (addresses or networks) that send the PROXY protocol. Nobody else may.',
  },
  'net.connections_max': {
    kind: 'count',
    default: 9000,
    min: 10,
    doc: 'Client connections of one gateway member, a file descriptor each: the hard limit (ulimit -Hn) has to be well above this.',
  },
  'net.connections_per_network_max': {
    kind: 'count',
    default: 200,
    min: 1,
    doc: 'Connections at once from one IPv4 address or IPv6 /64, counted before TLS and plugins.',
  },
  'net.greeting_timeout': {
    kind: 'duration',
    default: '30s',
    doc: 'From connection to the end of TLS and the first command.',
  },
  'net.login_timeout': {
    kind: 'duration',
    default: '3m',
    doc: 'From connection to login, in all, however busy the client looks.',
  },
  'smtp.message_size_max': {
    kind: 'size',
    default: '50MiB',
    min: '64KiB',
    doc: 'Largest message accepted, announced as SIZE.',
  },
  'smtp.recipients_max': {
    kind: 'count',
    default: 100,
    min: 100,
    max: 1000,
    doc: 'Recipients of one message (RFC 5321 4.5.3.1.8 asks for 100).',
  },
  'smtp.errors_max': {
    kind: 'count',
    default: 10,
    min: 1,
    doc: 'Bad commands before the connection ends with 421.',
  },
  'smtp.idle_timeout': {
    kind: 'duration',
    default: '5m',
    doc: 'Wait for the next command (RFC 5321 4.5.3.2.7 asks for 5m).',
  },
  'smtp.data_timeout': {
    kind: 'duration',
    default: '15m',
    doc: 'For a whole message, from DATA to the final dot.',
  },
  'smtp.header_lines_max': {
    kind: 'count',
    default: 2000,
    min: 100,
    doc: 'Header lines a message may have; more is refused, never cut.',
  },
  'smtp.header_bytes_max': {
    kind: 'size',
    default: '256KiB',
    min: '16KiB',
    doc: 'Header bytes a message may have.',
  },
  'smtp.line_bytes_max': {
    kind: 'size',
    default: '64KiB',
    min: '998B',
    max: '1MiB',
    doc: 'Longest line of a message, stored byte for byte; a longer one is refused. RFC 5322 allows 998 bytes, real mail has more.',
  },
  'smtp.received_max': {
    kind: 'count',
    default: 100,
    min: 10,
    doc: 'Received lines before a message counts as looping (RFC 5321 6.3).',
  },
  'smtp.haraka_plugins': { kind: 'texts', default: [], doc: "Haraka's own plugins to run as well, by name." },
} as const satisfies SettingsTable;

export type GatewaySettings = ValuesOf<typeof gatewaySettings>;
