/**
 * Bounces of mail nobody here has sent: when somebody forges an address, the
 * bounces of his spam come to it by the thousand. A mailbox gets so many bounces
 * within the window and no more; and a bounce goes to one recipient, because the
 * mail it answers came from one (RFC 5321 4.5.5).
 */
import { defer, definePlugin, pass, reject } from './api.ts';

export default definePlugin({
  name: 'bounce-guard',
  options: {
    per_recipient: {
      kind: 'count',
      default: 20,
      min: 1,
      doc: 'Bounces one mailbox may get within the window.',
    },
    per_network: {
      kind: 'count',
      default: 200,
      min: 1,
      doc: 'Bounces one network may bring within the window.',
    },
    window: { kind: 'duration', default: '1h', min: '1s', doc: 'How far back they are counted.' },
  },
  start(options, { countWithin, count }) {
    const toMailbox = countWithin('bounces-to', options.window);
    const fromNetwork = countWithin('bounces-from', options.window);
    return {
      asked: {
        recipient({ client, account }, to, from) {
          if (from !== '' || account !== undefined) return pass;
          const mailbox = to.toLowerCase();
          const counts = [
            [toMailbox.of(mailbox), options.per_recipient, mailbox],
            [fromNetwork.of(client.network), options.per_network, client.network],
          ] as const;
          const over = counts.find(([seen, most]) => seen >= most);
          if (over !== undefined) {
            count('refused');
            return defer('Too many bounces, try again later', `${over[0]} bounces: ${over[2]}`);
          }
          toMailbox.add(mailbox);
          fromNetwork.add(client.network);
          return pass;
        },
        header(_session, { envelope }) {
          if (envelope.from !== '' || envelope.to.length <= 1) return pass;
          count('many-recipients');
          return reject('A bounce has one recipient', `${envelope.to.length} recipients`);
        },
      },
    };
  },
});
