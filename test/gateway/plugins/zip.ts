/** Zip archives for tests (APPNOTE 4.3), honest and not. */
import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipFileOfTest {
  readonly name: string;
  readonly bytes: Buffer;
  /** Sets the flag; the bytes are garbage then anyway. */
  readonly encrypted?: boolean;
  /** What the headers claim it unpacks to. */
  readonly saysBytes?: number;
}

export function zipOf(files: readonly ZipFileOfTest[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  for (const { name, bytes, encrypted = false, saysBytes = bytes.length } of files) {
    const packed = deflateRawSync(bytes);
    const nameBytes = Buffer.from(name);
    const facts = Buffer.alloc(26);
    facts.writeUInt16LE(20, 0); // version needed
    facts.writeUInt16LE((encrypted ? 1 : 0) | 0x800, 2);
    facts.writeUInt16LE(8, 4); // deflate
    facts.writeUInt32LE(crc32(bytes), 10);
    facts.writeUInt32LE(packed.length, 14);
    facts.writeUInt32LE(saysBytes, 18);
    facts.writeUInt16LE(nameBytes.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), facts, nameBytes, packed]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(at, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\0', 'latin1'), facts, rest, nameBytes]));
    locals.push(local);
    at += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...locals, directory, end]);
}
