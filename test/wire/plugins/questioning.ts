/** A site plugin that answers every question by what it is told: names, subjects and accounts say what it should do. */
import { definePlugin, pass, quarantine, reject } from '../../../gateway/plugins/api.ts';

export default definePlugin({
  name: 'questioning',
  options: {},
  start() {
    return {
      asked: {
        greeting: (_session, name) => (name === 'unwelcome.example' ? reject('Not you') : pass),
        authenticated: (session) =>
          session.account?.startsWith('locked@') ? reject('Account locked', 'locked by the site') : pass,
        header(_session, header) {
          if (header.header('Subject')[0] === 'refused by its header') return reject('Not this');
          return header.names().includes('X-Old') ? { word: 'pass', dropFields: [{ name: 'x-old' }] } : pass;
        },
        message(_session, message) {
          return message.header('Subject')[0] === 'into the junk'
            ? quarantine('smells', [['X-Smell', 'yes']])
            : pass;
        },
      },
    };
  },
});
