import { describe, expect, test } from '@jest/globals';
import {
  mechanismsOf,
  type SaslChannel,
  SaslExchange,
  type SaslMechanism,
  type SaslOffer,
  type SaslStep,
  unboundChannel,
} from '../../../gateway/session/sasl-exchange.ts';
import { ScramClient } from '../../support/scram-client.ts';

const offer: SaslOffer = {
  scram: true,
  oauth: { issuer: 'https://issuer.example/', userClaim: 'email' },
};
const exporter = Buffer.alloc(32, 7);
const boundChannel: SaslChannel = {
  canBind: () => true,
  bind: (type) => (type === 'tls-exporter' ? exporter : undefined),
};
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const decoded = (step: SaslStep): string =>
  'challenge' in step ? Buffer.from(step.challenge, 'base64').toString() : JSON.stringify(step);
const record = { salt: Buffer.from('0123456789abcdef'), iterations: 4096 };

function start(mechanism: SaslMechanism, channel: SaslChannel, text: string): [SaslExchange, SaslStep] {
  const exchange = new SaslExchange(mechanism, offer, channel, () => 'SERVERNONCE');
  return [exchange, exchange.begin(base64(text))];
}

describe('what is announced', () => {
  test('depends on the site and on the connection', () => {
    expect(mechanismsOf({ scram: false }, boundChannel)).toEqual(['PLAIN', 'LOGIN']);
    expect(mechanismsOf({ scram: true }, unboundChannel)).toEqual(['PLAIN', 'LOGIN', 'SCRAM-SHA-256']);
    expect(mechanismsOf(offer, boundChannel)).toEqual([
      'PLAIN',
      'LOGIN',
      'SCRAM-SHA-256',
      'SCRAM-SHA-256-PLUS',
      'OAUTHBEARER',
      'XOAUTH2',
    ]);
  });

  test('what was not announced is not begun', () => {
    expect(SaslExchange.named('SCRAM-SHA-256-PLUS', offer, unboundChannel)).toBeUndefined();
    expect(SaslExchange.named('XOAUTH2', { scram: true }, boundChannel)).toBeUndefined();
    expect(SaslExchange.named('SCRAM-SHA-1', offer, boundChannel)).toBeUndefined();
  });
});

describe('SCRAM', () => {
  test('goes from name to salt to proof to signature to login', () => {
    const client = new ScramClient('ann@example.org', 'pencil');
    const [exchange, asked] = start('SCRAM-SHA-256', unboundChannel, client.first());
    expect(asked).toEqual({ salt: 'ann@example.org' });
    const serverFirst = decoded(exchange.salted(record));
    expect(serverFirst).toBe('r=rOprNGfwEbeRWgbNEkqOSERVERNONCE,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096');
    const proof = exchange.line(base64(client.reply(serverFirst).final));
    expect(proof).toMatchObject({ prove: { user: 'ann@example.org' } });
    expect(decoded(exchange.proven('c2ln'))).toBe('v=c2ln');
    expect(exchange.line('')).toMatchObject({ login: { user: 'ann@example.org' } });
  });

  const bends = [
    ['another nonce', { nonce: () => 'rOprNGfwEbeRWgbNEkqOreplayed' }, 'SCRAM-SHA-256', unboundChannel],
    ['only its own nonce', { nonce: () => 'rOprNGfwEbeRWgbNEkqO' }, 'SCRAM-SHA-256', unboundChannel],
    ['binding data where none was agreed', { binding: exporter }, 'SCRAM-SHA-256', unboundChannel],
    [
      'the binding of another connection',
      { gs2: 'p=tls-exporter,,', binding: Buffer.alloc(32, 8) },
      'SCRAM-SHA-256-PLUS',
      boundChannel,
    ],
    ['no binding data', { gs2: 'p=tls-exporter,,' }, 'SCRAM-SHA-256-PLUS', boundChannel],
    [
      'a binding that is not served',
      { gs2: 'p=tls-unique,,', binding: exporter },
      'SCRAM-SHA-256-PLUS',
      boundChannel,
    ],
  ] as const;
  test.each(bends)('a last message with %s never reaches the owner', (_name, bend, mechanism, channel) => {
    const client = new ScramClient('ann@example.org', 'pencil', bend);
    const [exchange, asked] = start(mechanism, channel, client.first());
    expect(asked).toEqual({ salt: 'ann@example.org' });
    const serverFirst = decoded(exchange.salted(record));
    const step = exchange.line(base64(client.reply(serverFirst).final));
    expect(step).toEqual({ failed: 'refused', user: 'ann@example.org' });
  });

  const refusedFirst = [
    ['says the server cannot bind, which it can', 'y,,', 'SCRAM-SHA-256', boundChannel],
    ['wants to bind without -PLUS', 'p=tls-exporter,,', 'SCRAM-SHA-256', boundChannel],
    ['does not bind with -PLUS', 'n,,', 'SCRAM-SHA-256-PLUS', boundChannel],
    ['acts for somebody else', 'n,a=bob@example.org,', 'SCRAM-SHA-256', unboundChannel],
  ] as const;
  test.each(refusedFirst)('a client that %s is refused', (_name, gs2, mechanism, channel) => {
    const client = new ScramClient('ann@example.org', 'x', { gs2 });
    expect(start(mechanism, channel, client.first())[1]).toEqual({
      failed: 'refused',
      user: 'ann@example.org',
    });
  });

  test('"y" is the truth on a connection that cannot bind', () => {
    const client = new ScramClient('ann@example.org', 'x', { gs2: 'y,a=Ann@example.org,' });
    expect(start('SCRAM-SHA-256', unboundChannel, client.first())[1]).toEqual({ salt: 'ann@example.org' });
  });

  test('cancelling, bad base64, bytes that are no UTF-8 and words after the signature end it', () => {
    const exchange = (): SaslExchange => new SaslExchange('SCRAM-SHA-256', offer, unboundChannel);
    expect(exchange().begin('*')).toEqual({ failed: 'cancelled' });
    expect(exchange().begin('&&&&')).toEqual({ failed: 'base64' });
    expect(exchange().begin(Buffer.from([0xff]).toString('base64'))).toEqual({ failed: 'refused' });
    const waiting = exchange();
    expect(waiting.begin(undefined)).toEqual({ challenge: '' });
    const client = new ScramClient('ann@example.org', 'pencil');
    waiting.line(base64(client.first()));
    waiting.line(base64(client.reply(decoded(waiting.salted(record))).final));
    waiting.proven('c2ln');
    expect(waiting.line(base64('x'))).toEqual({ failed: 'refused' });
  });
});

describe('OAuth', () => {
  const claims = Buffer.from(JSON.stringify({ email: 'ann@example.org' })).toString('base64url');
  const jwt = `e30.${claims}.c2ln`;
  const rows: readonly [SaslMechanism, string, object][] = [
    [
      'OAUTHBEARER',
      'n,a=ann@example.org,\x01host=x\x01port=143\x01auth=Bearer abc.~\x01\x01',
      { login: { user: 'ann@example.org', token: 'abc.~' } },
    ],
    ['OAUTHBEARER', `n,,\x01auth=bearer ${jwt}\x01\x01`, { login: { user: 'ann@example.org', token: jwt } }],
    [
      'OAUTHBEARER',
      'y,a=a=2Cb@example.org,\x01auth=Bearer t\x01\x01',
      { login: { user: 'a,b@example.org', token: 't' } },
    ],
    [
      'XOAUTH2',
      'user=ann@example.org\x01auth=Bearer ya29.x\x01\x01',
      { login: { user: 'ann@example.org', token: 'ya29.x' } },
    ],
  ];
  test.each(rows)('%s %j is a login', (mechanism, text, step) => {
    expect(start(mechanism, unboundChannel, text)[1]).toEqual(step);
  });

  const bad: readonly [SaslMechanism, string][] = [
    ['OAUTHBEARER', ''],
    ['OAUTHBEARER', '\x01'],
    ['OAUTHBEARER', 'n,,\x01auth=Bearer opaque\x01\x01'],
    ['OAUTHBEARER', 'p=tls-exporter,,\x01auth=Bearer x\x01\x01'],
    ['OAUTHBEARER', 'n,a=ann@example.org,\x01auth=Bearer a\x01auth=Bearer b\x01\x01'],
    ['OAUTHBEARER', 'n,a=ann@example.org,\x01auth=Basic YTpi\x01\x01'],
    ['OAUTHBEARER', `n,a=ann@example.org,\x01auth=Bearer ${'x'.repeat(8193)}\x01\x01`],
    ['OAUTHBEARER', 'n,a=ann@example.org,\x01auth=Bearer a b\x01\x01'],
    ['XOAUTH2', 'user=\x01auth=Bearer opaque\x01\x01'],
    ['XOAUTH2', 'ann@example.org\x01auth=Bearer x\x01\x01'],
    ['XOAUTH2', 'user=ann@example.org\x01auth=Bearer x'],
  ];
  test.each(bad)('%s %j is refused in its own words, and then for good', (mechanism, text) => {
    const exchange = new SaslExchange(mechanism, offer, unboundChannel);
    exchange.begin(undefined);
    const told = JSON.parse(decoded(exchange.line(base64(text)))) as Record<string, unknown>;
    expect(told.status).toBe(mechanism === 'XOAUTH2' ? '401' : 'invalid_token');
    expect(exchange.line('AQ==')).toEqual({ failed: 'refused' });
  });

  test('a refusal of the owner names the issuer, and any answer to it ends the exchange', () => {
    for (const answer of ['AQ==', '', '*', '&&&']) {
      const [exchange] = start('OAUTHBEARER', unboundChannel, 'n,a=a@b.c,\x01auth=Bearer t\x01\x01');
      expect(JSON.parse(decoded(exchange.refused()))).toEqual({
        status: 'invalid_token',
        'openid-configuration': 'https://issuer.example/.well-known/openid-configuration',
      });
      expect(exchange.line(answer)).toEqual({ failed: 'refused' });
      expect(exchange.refused()).toEqual({ failed: 'refused' });
    }
  });
});
