/** What a mailbox holds, seen by a real IMAP client over TLS: the ground that tests on the wire are judged by. */
import { ImapFlow } from 'imapflow';
import type { Cluster, TestAccount } from '../support/cluster.ts';

export interface StoredMessage {
  readonly uid: number;
  readonly subject: string;
  readonly bytes: Buffer;
}

export async function storedMessages(
  cluster: Cluster,
  account: TestAccount = cluster.account,
): Promise<StoredMessage[]> {
  const client = new ImapFlow({
    host: cluster.host,
    port: cluster.ports.imaps,
    secure: true,
    tls: { rejectUnauthorized: false },
    auth: { user: account.address, pass: account.password },
    logger: false,
  });
  await client.connect();
  try {
    const found: StoredMessage[] = [];
    await client.mailboxOpen('INBOX', { readOnly: true });
    for await (const message of client.fetch('1:*', { uid: true, source: true })) {
      const bytes = message.source ?? Buffer.alloc(0);
      const subject = /^Subject: (.*)\r$/m.exec(bytes.toString('latin1'))?.[1] ?? '';
      found.push({ uid: message.uid, subject, bytes });
    }
    return found;
  } finally {
    await client.logout().catch(() => client.close());
  }
}
