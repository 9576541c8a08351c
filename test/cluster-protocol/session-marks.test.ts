/** The frames of a session stream: whatever way they are cut, a checkpoint is known before the answers it includes. */
import { describe, expect, test } from '@jest/globals';
import { ReplyWriter, type Transport } from '../../backend/serve/imap/reply-writer.ts';
import {
  frameHeadBytes,
  frameKind,
  heldBytesMax,
  type MarkListener,
  MarkReader,
  markHeadBytes,
  sameState,
  stateBytesMax,
  writeFrameHead,
  writeMarkHead,
} from '../../cluster-protocol/session-marks.ts';
import { randomSource } from '../support/random.ts';

class Heard implements MarkListener {
  /** `C12:state` for a checkpoint, `A` and text for answers; answers behind one another are one. */
  readonly events: string[] = [];
  answers(bytes: Buffer): void {
    const text = bytes.toString('latin1');
    if (this.events.at(-1)?.startsWith('A')) this.events[this.events.length - 1] += text;
    else this.events.push(`A${text}`);
  }
  checkpoint(consumed: number, state: Buffer | undefined): void {
    this.events.push(`C${consumed}:${state === undefined ? '=' : state.toString()}`);
  }
  compress(): void {
    this.events.push('compress');
  }
  ended(kind: 'moved' | 'over'): void {
    this.events.push(kind);
  }
}

/** A writer whose frames are collected. */
function marked(): { writer: ReplyWriter; bytes(): Buffer } {
  const chunks: Buffer[] = [];
  const transport: Transport = {
    write: (chunk) => chunks.push(Buffer.from(chunk)) > 0,
    drained: () => Promise.resolve(),
    pauseInput() {},
    resumeInput() {},
    end() {},
    destroy() {},
    closed: false,
  };
  return { writer: new ReplyWriter(transport, true), bytes: () => Buffer.concat(chunks) };
}

function frame(kind: (typeof frameKind)[keyof typeof frameKind], text: string): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  writeFrameHead(head, kind, text.length);
  return Buffer.concat([head, Buffer.from(text)]);
}

function mark(consumed: number, state: string | undefined, text: string): Buffer {
  const head = Buffer.alloc(markHeadBytes);
  writeMarkHead(head, text.length, consumed, state?.length ?? sameState);
  return Buffer.concat([head, Buffer.from(state ?? ''), Buffer.from(text)]);
}

/** A session's stream as a backend writes it. */
function conversation(): Buffer {
  const { writer, bytes } = marked();
  writer.text('a OK one\r\n');
  writer.boundary(10, Buffer.from('first'));
  writer.text('b OK two\r\n');
  writer.boundary(25, undefined);
  void writer.flush();
  writer.text('* 1 FETCH (BODY[] {6}\r\n');
  writer.bytes(Buffer.from('a\r\nb\r\n'));
  writer.text(')\r\n');
  void writer.flush();
  writer.text('c OK FETCH\r\n');
  writer.boundary(40, Buffer.from('second'));
  writer.more('+ OK\r\n');
  void writer.flush();
  writer.text('d OK\r\n');
  writer.boundary(90, undefined);
  writer.end('moved');
  return bytes();
}

const heardOf = [
  'C25:first',
  'Aa OK one\r\nb OK two\r\n* 1 FETCH (BODY[] {6}\r\na\r\nb\r\n)\r\n',
  'C15:second',
  'Ac OK FETCH\r\n+ OK\r\n',
  'C50:=',
  'Ad OK\r\n',
  'moved',
];

describe('a stream with marks', () => {
  test('what is no frame, or has too long a state, is refused', () => {
    for (const bytes of [
      Buffer.from([0, 1, 0, 0, 0]),
      Buffer.from([99, 1, 0, 0, 0]),
      Buffer.from('* OK hello\r\n'),
    ])
      expect(() => new MarkReader().push(bytes, new Heard())).toThrow(/form/);
    const head = Buffer.alloc(markHeadBytes);
    writeMarkHead(head, 0, 0, stateBytesMax + 1);
    expect(() => new MarkReader().push(head, new Heard())).toThrow(/form/);
  });

  test('is read the same whatever pieces it comes in', () => {
    const bytes = conversation();
    const random = randomSource(7);
    for (let round = 0; round < 200; round++) {
      const heard = new Heard();
      const reader = new MarkReader();
      for (let at = 0; at < bytes.length; ) {
        const end = round === 0 ? bytes.length : round === 1 ? at + 1 : at + random.between(1, 20);
        // The chunk is its sender's again afterwards.
        const chunk = Buffer.from(bytes.subarray(at, end));
        reader.push(chunk, heard);
        chunk.fill(0x3f);
        at = end;
      }
      expect(heard.events).toEqual(heardOf);
    }
  });

  test('wherever it breaks off, no completion is through without its checkpoint', () => {
    const bytes = conversation();
    for (let end = 0; end <= bytes.length; end++) {
      const heard = new Heard();
      const reader = new MarkReader();
      reader.push(bytes.subarray(0, end), heard);
      const through = heard.events.filter((event) => event.startsWith('A')).join('');
      const reached = heard.events.filter((event) => event.startsWith('C')).length;
      for (const [completion, checkpoints] of [
        ['a OK', 1],
        ['b OK', 1],
        ['c OK', 2],
        ['d OK', 3],
      ] as const)
        if (through.includes(completion)) expect(reached).toBeGreaterThanOrEqual(checkpoints);
    }
  });

  test('says how far the client got in the answer that broke off', () => {
    const rows = [
      [mark(5, undefined, 'a OK\r\n'), 'nothing'],
      [frame(frameKind.lines, '* 1 FETCH (UID 1)\r\n'), 'line'],
      [frame(frameKind.lines, '* 1 FETCH (UID 1)\r\n* 2').subarray(0, -1), 'middle'],
      [frame(frameKind.answers, '* 1 FETCH (BODY[] {2}\r\n\r\n)\r\n'), 'line'],
      [frame(frameKind.answers, '* 1 FETCH (BODY[] {2}\r\n\r\n)\r\n').subarray(0, -3), 'middle'],
      [frame(frameKind.part, '* 1 FETCH (BODY[] {99}\r\n'), 'middle'],
      [frame(frameKind.more, '+ OK\r\n'), 'nothing'],
    ] as const;
    for (const [bytes, reached] of rows) {
      const reader = new MarkReader();
      reader.push(bytes, new Heard());
      expect(reader.reached).toBe(reached);
    }
  });

  test('counts continuation requests since the checkpoint', () => {
    const reader = new MarkReader();
    reader.push(frame(frameKind.more, '+ OK\r\n'), new Heard());
    reader.push(frame(frameKind.more, '+ OK\r\n'), new Heard());
    expect(reader.continuations).toBe(2);
    reader.push(mark(5, undefined, 'a OK\r\n'), new Heard());
    expect(reader.continuations).toBe(0);
  });

  test('answers too long to be held go through, and count once they are whole', () => {
    const text = 'x'.repeat(heldBytesMax + 1);
    const bytes = mark(5, 'state', text);
    const heard = new Heard();
    const reader = new MarkReader();
    reader.push(bytes.subarray(0, bytes.length - 1), heard);
    expect(heard.events).toEqual([`A${text.slice(1)}`]);
    expect(reader.reached).toBe('middle');
    reader.push(bytes.subarray(bytes.length - 1), heard);
    expect(heard.events).toContain('C5:state');
    expect(reader.reached).toBe('nothing');
  });

  test('literals that came by text are not taken for lines', () => {
    const { writer, bytes } = marked();
    writer.text('* 1 FETCH (ENVELOPE ({3}\r\na\r\n))\r\n');
    void writer.flush();
    expect(bytes()[0]).toBe(frameKind.answers);
  });
});
