/**
 * Delivers messages straight over a link, as a gateway does, without SMTP in
 * front: what a backend alone can store. `node bench/deliver-load.ts SOCKET
 * COUNT CONCURRENCY SIZE USERS FIRST DOMAIN EPOCH`; one JSON line.
 */

import { randomBytes } from 'node:crypto';
import http2 from 'node:http2';
import net from 'node:net';
import { linkHeader, protocolVersion } from '../cluster-protocol/link.ts';

const [
  socketPath = '',
  count = '4000',
  concurrency = '20',
  size = '4096',
  users = '1000',
  first = '1001',
  domain = 'example.test',
] = process.argv.slice(2);

const link = http2.connect('http://localhost', { createConnection: () => net.connect(socketPath) });
await new Promise<void>((resolve, reject) => {
  link.once('connect', () => resolve());
  link.once('error', reject);
});

const line = `${'abcdefg '.repeat(9)}xyz\r\n`;
const head = `From: bench@${domain}\r\nSubject: bench\r\nDate: Mon, 23 Nov 2026 03:00:00 +0000\r\n`;
const filler = line.repeat(Math.ceil(Number(size) / line.length)).slice(0, Number(size) - head.length - 60);

let epoch = '0';
let next = 0;
let failures = 0;
const latencies: number[] = [];

function deliver(): Promise<void> {
  const number = next++;
  const key = randomBytes(16).toString('hex');
  const user = Number(first) + Math.floor(Math.random() * Number(users));
  const body = Buffer.from(`${head}Message-ID: <${key}@bench>\r\n\r\n${filler}\r\n`);
  return new Promise((resolve) => {
    const startedAt = performance.now();
    const stream = link.request({
      ':method': 'POST',
      ':path': '/deliver',
      [linkHeader.version]: String(protocolVersion),
      [linkHeader.recipients]: encodeURIComponent(`u${user}@${domain}`),
      [linkHeader.epoch]: epoch,
      [linkHeader.client]: '127.0.0.1:25',
      [linkHeader.trace]: `bench${number}`,
      [linkHeader.reversePath]: `bench%40${domain}`,
      [linkHeader.size]: String(body.length),
      [linkHeader.deliveryKey]: key,
    });
    let answer = '';
    stream.on('response', (headers) => {
      if (headers[':status'] !== 200) failures++;
      answer += String(headers[linkHeader.outcomes] ?? '');
      const told = headers[linkHeader.epoch];
      if (typeof told === 'string') epoch = told;
    });
    stream.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    stream.on('error', () => failures++);
    stream.on('close', () => {
      if (!answer.includes('stored')) failures++;
      latencies.push(performance.now() - startedAt);
      resolve();
    });
    stream.end(body);
  });
}

const startedAt = performance.now();
await Promise.all(
  Array.from({ length: Number(concurrency) }, async () => {
    while (next < Number(count)) await deliver();
  }),
);
const seconds = (performance.now() - startedAt) / 1000;
latencies.sort((a, b) => a - b);
console.log(
  JSON.stringify({
    mode: 'deliver',
    count: latencies.length,
    per_s: Math.round(latencies.length / seconds),
    p50_ms: Number(latencies[latencies.length >> 1]!.toFixed(2)),
    p99_ms: Number(latencies[Math.floor(latencies.length * 0.99)]!.toFixed(2)),
    errors: failures,
  }),
);
link.close();
