/** Base subjects (RFC 5256 2.1) and the collation they are compared by (RFC 5051). */
import { describe, expect, test } from '@jest/globals';
import { baseSubject } from '../../mailwire/base-subject.ts';
import { casemap } from '../../mailwire/unicode-casemap.ts';

describe('the base of a subject', () => {
  test.each<[string, string, boolean]>([
    ['', '', false],
    ['hello', 'hello', false],
    ['  hello \t\r\n  world  ', 'hello world', false],
    ['Re: hello', 'hello', true],
    ['RE : hello', 'hello', true],
    ['re:re: Fwd: hello', 'hello', true],
    ['Fw: hello', 'hello', true],
    ['Re[2]: hello', 'hello', true],
    ['[list] Re: hello', 'hello', true],
    ['[a] [b] hello', 'hello', false],
    ['[only]', '[only]', false],
    ['Re: [list]', '[list]', true],
    ['hello (fwd)', 'hello', true],
    ['hello (fwd) (FWD) ', 'hello', true],
    ['[fwd: hello]', 'hello', true],
    ['[Fwd: Re: [list] hello (fwd)]', 'hello', true],
    ['reply: hello', 'reply: hello', false],
    ['re hello', 're hello', false],
    ['[unclosed Re: hello', '[unclosed Re: hello', false],
    ['[nes[ted] x', '[nes[ted] x', false],
  ])('%j is %j', (subject, base, isReply) => {
    expect(baseSubject(subject)).toEqual({ base, isReply });
  });

  test.each(['re:'.repeat(100_000), '['.repeat(100_000), '[a]'.repeat(100_000), '(fwd)'.repeat(100_000)])(
    'a hostile subject costs little',
    (subject) => {
      const startedAt = performance.now();
      baseSubject(subject);
      expect(performance.now() - startedAt).toBeLessThan(100);
    },
  );
});

describe('unicode-casemap', () => {
  test.each([
    ['abc', 'ABC'],
    ['Grüße', 'GRÜßE'],
    ['\u00e4', 'a\u0308'],
    ['ΟΔΟΣ', 'οδος'],
    ['οδοσ', 'οδος'],
    ['\u01c4', '\u01c6'],
    ['ﬁ', 'fi'.toUpperCase() === 'FI' ? 'ﬁ' : ''],
    ['Å', '\u212b'],
    ['ж', 'Ж'],
  ])('%j is the same as %j', (a, b) => {
    expect(casemap(a)).toBe(casemap(b));
  });

  test.each([
    ['straße', 'strasse'],
    ['a', 'ä'],
    ['i', 'ı̇x'],
  ])('%j is not %j', (a, b) => {
    expect(casemap(a)).not.toBe(casemap(b));
  });
});
