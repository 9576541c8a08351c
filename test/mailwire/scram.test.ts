import { pbkdf2Sync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { saslPrep } from '../../mailwire/sasl-prep.ts';
import {
  authMessage,
  checkProof,
  parseClientFinal,
  parseClientFirst,
  scramKeys,
  serverFirst,
} from '../../mailwire/scram.ts';

describe('SCRAM-SHA-256', () => {
  test('the exchange of RFC 7677 3, to the letter', () => {
    const first = parseClientFirst('n,,n=user,r=rOprNGfwEbeRWgbNEkqO');
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
    const text = serverFirst(first, '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0', { salt, iterations: 4096 });
    expect(text).toBe(
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    );
    const final = parseClientFinal(
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    );
    expect(final.binding.toString()).toBe('n,,');
    const keys = scramKeys(pbkdf2Sync('pencil', salt, 4096, 32, 'sha256'));
    const signed = authMessage(first, text, final);
    expect(checkProof(keys, signed, final.proof)?.toString('base64')).toBe(
      '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    );
    expect(checkProof(keys, `${signed} `, final.proof)).toBeUndefined();
    for (const proof of [Buffer.alloc(32), Buffer.alloc(0), Buffer.alloc(64)])
      expect(checkProof(keys, signed, proof)).toBeUndefined();
  });

  const badFirst = [
    ['nothing', ''],
    ['no GS2 header', 'n=user,r=abc'],
    ['an unknown flag', 'x,,n=user,r=abc'],
    ['a binding without a type', 'p=,,n=user,r=abc'],
    ['a mandatory extension', 'n,,m=x,n=user,r=abc'],
    ['no name', 'n,,n=,r=abc'],
    ['no nonce', 'n,,n=user,r='],
    ['a nonce with a space', 'n,,n=user,r=a b'],
    ['an unescaped equals sign', 'n,,n=us=er,r=abc'],
    ['a wrong escape', 'n,,n=us=2cer,r=abc'],
    ['NUL in the name', 'n,,n=us\0er,r=abc'],
    ['an overlong nonce', `n,,n=user,r=${'x'.repeat(257)}`],
    ['an overlong message', `n,,n=${'x'.repeat(3000)},r=abc`],
  ] as const;
  test.each(badFirst)('a first message with %s is refused', (_name, text) => {
    expect(() => parseClientFirst(text)).toThrow(expect.objectContaining({ code: 'bad-syntax' }));
  });

  const proof = Buffer.alloc(32).toString('base64');
  const badFinal = [
    ['nothing', ''],
    ['no proof', 'c=biws,r=abc'],
    ['a short proof', 'c=biws,r=abc,p=AAAA'],
    ['something after the proof', `c=biws,r=abc,p=${proof},x=y`],
    ['no binding', `r=abc,p=${proof}`],
    ['an overlong binding', `c=${'A'.repeat(3000)},r=abc,p=${proof}`],
  ] as const;
  test.each(badFinal)('a last message with %s is refused', (_name, text) => {
    expect(() => parseClientFinal(text)).toThrow(expect.objectContaining({ code: 'bad-syntax' }));
  });

  test('names are unescaped, the header is kept as it was sent, extensions are let be', () => {
    expect(parseClientFirst('p=tls-exporter,a=b=2Cc=3D,n=a=2Cb=3Dc,r=x+y,t=1')).toMatchObject({
      gs2Header: 'p=tls-exporter,a=b=2Cc=3D,',
      binding: { kind: 'used', type: 'tls-exporter' },
      authzid: 'b,c=',
      user: 'a,b=c',
      nonce: 'x+y',
      bare: 'n=a=2Cb=3Dc,r=x+y,t=1',
    });
    expect(parseClientFirst('y,,n=a,r=x').binding).toEqual({ kind: 'unused' });
  });
});

describe('SASLprep', () => {
  // RFC 4013 3
  const rows = [
    ['I\u00adX', 'IX'],
    ['user', 'user'],
    ['USER', 'USER'],
    ['\u00aa', 'a'],
    ['\u2168', 'IX'],
    ['\u0007', undefined],
    ['\u0627\u0031', undefined],
    ['pa\u0308ss\u00a0wo\u0308rd', 'p\u00e4ss w\u00f6rd'],
    ['\u0627\u0628', '\u0627\u0628'],
    ['\u0627a\u0628', undefined],
    ['\ue000', undefined],
    ['', undefined],
    ['\u00ad', undefined],
    ['x'.repeat(1025), undefined],
  ] as const;
  test.each(rows)('%j becomes %j', (text, prepared) => {
    expect(saslPrep(text)).toBe(prepared);
  });
});
