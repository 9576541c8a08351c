/**
 * Builds one X.509 v3 certificate (RFC 5280) with a P-256 key. node-forge knows
 * ASN.1 and PEM but no elliptic curves: it lays out the bytes to be signed, and
 * Node's own crypto makes the key and signs.
 */
import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';
import forge from 'node-forge';

const { asn1, pem, util } = forge;
type Asn1 = forge.asn1.Asn1;
const { UNIVERSAL, CONTEXT_SPECIFIC } = asn1.Class;
const { BITSTRING, BOOLEAN, GENERALIZEDTIME, INTEGER, NONE, OCTETSTRING, OID, SEQUENCE, SET, UTCTIME, UTF8 } =
  asn1.Type;

const oid = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2', // RFC 5758 3.2
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

export interface DistinguishedName {
  readonly organization: string;
  readonly commonName: string;
}

export interface CertificateFacts {
  readonly subject: DistinguishedName;
  readonly issuer: DistinguishedName;
  readonly publicKey: KeyObject;
  readonly issuerPublicKey: KeyObject;
  readonly issuerPrivateKey: KeyObject;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** `authority`: may sign leaves and nothing else; `server`: shown to clients; `member`: both ends of a link. */
  readonly use: 'authority' | 'server' | 'member';
  /** Host names, IP addresses and URIs (`urn:…`) the certificate speaks for. */
  readonly names: readonly string[];
}

/** @returns The certificate as PEM. */
export function buildCertificate(facts: CertificateFacts): string {
  const signatureAlgorithm = sequence(objectId(oid.ecdsaWithSha256));
  const toBeSigned = sequence(
    explicit(0, integer(Buffer.from([2]))), // v3
    integer(serialNumber()),
    signatureAlgorithm,
    name(facts.issuer),
    sequence(time(facts.notBeforeMs), time(facts.notAfterMs)),
    name(facts.subject),
    asn1.fromDer(binary(publicKeyDer(facts.publicKey))),
    explicit(3, sequence(...extensions(facts))),
  );
  const signature = sign('sha256', Buffer.from(asn1.toDer(toBeSigned).getBytes(), 'binary'), {
    key: facts.issuerPrivateKey,
    dsaEncoding: 'der',
  });
  const certificate = sequence(toBeSigned, signatureAlgorithm, bitString(signature));
  return pem
    .encode({ type: 'CERTIFICATE', body: asn1.toDer(certificate).getBytes() })
    .replaceAll('\r\n', '\n');
}

function extensions(facts: CertificateFacts): Asn1[] {
  const authority = facts.use === 'authority';
  const purposes = facts.use === 'member' ? [oid.serverAuth, oid.clientAuth] : [oid.serverAuth];
  const list = [
    extension(
      oid.basicConstraints,
      true,
      // A path length of 0: the CA signs leaves, never another CA.
      authority ? sequence(boolean(true), integer(Buffer.from([0]))) : sequence(),
    ),
    // RFC 5280 4.2.1.3, bit 0 is the highest: keyCertSign(5) + cRLSign(6), or digitalSignature(0)
    extension(oid.keyUsage, true, primitive(BITSTRING, Buffer.from(authority ? [0x01, 0x06] : [0x07, 0x80]))),
    extension(oid.subjectKeyIdentifier, false, primitive(OCTETSTRING, keyIdentifier(facts.publicKey))),
    extension(
      oid.authorityKeyIdentifier,
      false,
      sequence(asn1.create(CONTEXT_SPECIFIC, 0, false, binary(keyIdentifier(facts.issuerPublicKey)))),
    ),
  ];
  if (!authority) list.push(extension(oid.extendedKeyUsage, false, sequence(...purposes.map(objectId))));
  if (facts.names.length > 0)
    list.push(extension(oid.subjectAltName, false, sequence(...facts.names.map(generalName))));
  return list;
}

/** RFC 5280 4.2.1.6: dNSName [2], uniformResourceIdentifier [6], iPAddress [7]. */
function generalName(text: string): Asn1 {
  const of = (tag: number, value: string): Asn1 => asn1.create(CONTEXT_SPECIFIC, tag, false, value);
  if (isIP(text) !== 0) return of(7, bytesFromIp(text));
  return of(text.startsWith('urn:') ? 6 : 2, text);
}

/** `bytesFromIP` is in node-forge, but not in its types. */
function bytesFromIp(text: string): string {
  return (util as unknown as { bytesFromIP(ip: string): string | null }).bytesFromIP(text) ?? '';
}

/** RFC 5280 4.2.1.2, method 1: SHA-1 of the public key bits. A name for the key, not a protection of it. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  // The key bits of a P-256 SubjectPublicKeyInfo are its last 65 bytes: the uncompressed point.
  return createHash('sha1').update(publicKeyDer(publicKey).subarray(-65)).digest();
}

function publicKeyDer(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** RFC 5280 4.1.2.2: positive, at most 20 bytes; 126 random bits cannot be guessed ahead. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

function name(parts: DistinguishedName): Asn1 {
  const attribute = (type: string, text: string): Asn1 =>
    asn1.create(UNIVERSAL, SET, true, [
      sequence(objectId(type), asn1.create(UNIVERSAL, UTF8, false, util.encodeUtf8(text))),
    ]);
  return sequence(
    attribute(oid.organization, parts.organization),
    attribute(oid.commonName, parts.commonName.slice(0, 64)), // RFC 5280 A.1: ub-common-name
  );
}

/** RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050. */
function time(ms: number): Asn1 {
  const date = new Date(Math.floor(ms / 1000) * 1000);
  return date.getUTCFullYear() < 2050
    ? asn1.create(UNIVERSAL, UTCTIME, false, asn1.dateToUtcTime(date) as string)
    : asn1.create(UNIVERSAL, GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date) as string);
}

function extension(id: string, critical: boolean, value: Asn1): Asn1 {
  const wrapped = asn1.create(UNIVERSAL, OCTETSTRING, false, asn1.toDer(value).getBytes());
  return critical ? sequence(objectId(id), boolean(true), wrapped) : sequence(objectId(id), wrapped);
}

const binary = (bytes: Uint8Array): string => Buffer.from(bytes).toString('binary');
const sequence = (...parts: Asn1[]): Asn1 => asn1.create(UNIVERSAL, SEQUENCE, true, parts);
const explicit = (tag: number, part: Asn1): Asn1 =>
  asn1.create(CONTEXT_SPECIFIC, tag as typeof NONE, true, [part]);
const primitive = (type: forge.asn1.Type, bytes: Uint8Array): Asn1 =>
  asn1.create(UNIVERSAL, type, false, binary(bytes));
const integer = (bytes: Uint8Array): Asn1 => primitive(INTEGER, bytes);
const boolean = (value: boolean): Asn1 => primitive(BOOLEAN, Buffer.from([value ? 0xff : 0]));
const bitString = (bytes: Uint8Array): Asn1 =>
  primitive(BITSTRING, Buffer.concat([Buffer.from([0]), Buffer.from(bytes)]));
const objectId = (id: string): Asn1 => asn1.create(UNIVERSAL, OID, false, asn1.oidToDer(id).getBytes());
