/**
 * How many durable deliveries a second this machine's disk takes: 4 KiB
 * messages over many accounts. Not a test; run it by hand:
 *   node test/backend/store/delivery-rate.ts [messages] [accounts] [in flight] [directory]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { Intake } from '../../../backend/store/intake/intake.ts';
import { IntakeReader } from '../../../backend/store/intake/intake-reader.ts';
import { openStore } from '../../../backend/store/open-store.ts';
import type { Store } from '../../../backend/store/store.ts';
import { silentLog } from '../../../base/log.ts';

const [messages = 20_000, accounts = 1000, inFlight = 32] = process.argv.slice(2, 5).map(Number);
const root = await mkdtemp(path.join(process.argv[5] ?? '/var/tmp', 'delivery-rate-'));
const limits = {
  messageBytesMax: 1 << 30,
  foldersMax: 100,
  folderNameBytesMax: 500,
  keywordsPerFolderMax: 50,
  quotaBytes: 0,
  quotaMessages: 0,
};
const guard = { epoch: 1, assert() {} };
const body = Buffer.alloc(4096, 'x');
const { mkdir } = await import('node:fs/promises');

const live =
  process.env.POSTERN_TEST_INTAKE === 'off'
    ? undefined
    : await Intake.open(path.join(root, 'intake'), silentLog);
const reader = new IntakeReader(path.join(root, 'intake'), silentLog);
const intakeOf = (index: number) => ({ reader, live, account: `u${index}@example.org` });

const stores: Store[] = [];
const before = process.memoryUsage();
let started = performance.now();
await crowd(accounts, async (index) => {
  const directory = path.join(root, String(index));
  await mkdir(directory);
  stores[index] = await openStore({
    directory,
    guard,
    limits,
    log: silentLog,
    dirsync: true,
    intake: intakeOf(index),
  });
});
const openMs = performance.now() - started;
const after = process.memoryUsage();

const cpu = process.cpuUsage();
started = performance.now();
await crowd(messages, async (index) => {
  const folder = await stores[index % accounts]!.folder('INBOX');
  const key = index.toString(16).padStart(32, '0');
  const incoming = await folder.append(
    { flags: 0, keywords: [], internalDateMs: Date.now(), deliveryKey: key },
    body.length,
  );
  await incoming.write(body);
  await incoming.commit();
});
const deliverMs = performance.now() - started;
const used = process.cpuUsage(cpu);

const one = stores[0]!;
const inbox = await one.folder('INBOX');
started = performance.now();
const changes = 2000;
for (let index = 0; index < changes; index++) {
  await inbox.changeFlags([inbox.uids()[0]!], { how: index % 2 ? 'remove' : 'add', flags: 1, keywords: [] });
}
const flagMs = performance.now() - started;
started = performance.now();
await Promise.all(stores.map((store) => store.close()));
const closeMs = performance.now() - started;
started = performance.now();
await crowd(accounts, async (index) => {
  const directory = path.join(root, String(index));
  const store = await openStore({
    directory,
    guard: { epoch: 2, assert() {} },
    limits,
    log: silentLog,
    dirsync: true,
    intake: intakeOf(index),
  });
  await store.folder('INBOX');
  stores[index] = store;
});
const reopenMs = performance.now() - started;
await Promise.all(stores.map((store) => store.close()));
await live?.close();
await rm(root, { recursive: true });
console.log(
  JSON.stringify({
    messages,
    accounts,
    inFlight,
    deliveriesPerSecond: Math.round((messages / deliverMs) * 1000),
    cpuMicrosPerDelivery: Math.round((used.user + used.system) / messages),
    flagChangesPerSecond: Math.round((changes / flagMs) * 1000),
    firstOpenMs: round(openMs / accounts),
    reopenMs: round(reopenMs / accounts),
    closeMs: round(closeMs / accounts),
    heapBytesPerOpenAccount: Math.round((after.heapUsed - before.heapUsed) / accounts),
    residentBytesPerOpenAccount: Math.round((after.rss - before.rss) / accounts),
  }),
);

async function crowd(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(inFlight, count) }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
