/** Certificates from a real ACME authority, shown by all gateways of a cluster. */
import { request } from 'node:http';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseConfig, readSettings } from '../../../base/config-file.ts';
import { acmeSettings, certificatesAsked } from '../../../gateway/acme/settings.ts';
import { type Cluster, startCluster } from '../../support/cluster.ts';
import { type NameServer, startNameServer } from '../../support/dnsmasq.ts';
import { type Pebble, startPebble } from '../../support/pebble.ts';
import { freePorts, waitFor } from '../../support/process.ts';

describe('settings', () => {
  const rows: readonly [text: string, says: RegExp][] = [
    ['acme.certificates = ["mx.example.org"]', /postern\.toml:1 acme\.agree: has to be true/],
    [
      'acme.agree = true\nacme.certificates = ["not a name!"]',
      /postern\.toml:2 acme\.certificates: "not" is no host name/,
    ],
    ['acme.agree = true\nacme.certificates = ["*.example.org"]', /"\*\.example\.org" is a wildcard/],
    ['acme.agree = true\nacme.certificates = [""]', /is no host name; try/],
  ];
  test.each(rows)('%j is an error that points', (text, says) => {
    const file = parseConfig(text, 'postern.toml');
    expect(() => certificatesAsked(readSettings(file, acmeSettings), file.place)).toThrow(says);
  });
});

describe('with an authority', () => {
  let dns: NameServer;
  let pebble: Pebble;
  let cluster: Cluster;
  let httpPort: number;

  beforeAll(async () => {
    dns = await startNameServer(['a:mx.acme.test=127.0.0.1', 'a:imap.acme.test=127.0.0.1']);
    // The authority has to know the port before the cluster is there.
    httpPort = (await freePorts(1))[0]!;
    pebble = await startPebble({ dns: dns.address, httpPort });
    cluster = await startCluster({
      gateways: 2,
      readyMs: 150_000,
      config: [
        `listen.http = ["127.0.0.1:${httpPort}"]`,
        'acme.agree = true',
        'acme.certificates = ["mx.acme.test imap.acme.test"]',
        `acme.directory = "${pebble.directoryUrl}"`,
        `acme.ca = "${pebble.caFile}"`,
        '',
      ].join('\n'),
    });
  }, 240_000);

  afterAll(async () => {
    await cluster?.stop();
    await pebble?.stop();
    await dns?.stop();
  });

  function shown(port: number, servername?: string): Promise<string> {
    return new Promise((resolve, fail) => {
      const socket = tls.connect(
        {
          port,
          host: '127.0.0.1',
          rejectUnauthorized: false,
          ...(servername === undefined ? {} : { servername }),
        },
        () => {
          const { subjectaltname = '', issuer } = socket.getPeerCertificate();
          socket.destroy();
          resolve(`${subjectaltname} by ${issuer.CN}`);
        },
      );
      socket.on('error', fail);
    });
  }

  test('one certificate for both names comes and is shown by name, on every port and every gateway', async () => {
    await waitFor(
      'the certificate',
      async () => (await shown(cluster.ports.imaps, 'mx.acme.test')).includes('Pebble'),
      90_000,
    );
    for (let count = 0; count < 10; count++) {
      for (const port of [
        cluster.ports.imaps,
        cluster.ports.pop3s,
        cluster.ports.submissions,
        cluster.ports.https,
      ]) {
        expect(await shown(port, 'IMAP.acme.test')).toMatch(
          /DNS:imap\.acme\.test.*Pebble|DNS:mx\.acme\.test.*Pebble/,
        );
      }
    }
    const issued = (await cluster.logs()).filter(({ msg }) => msg === 'certificate issued');
    expect(issued).toHaveLength(1);
  }, 120_000);

  test('who asks for another name, or for none, sees the certificate of before', async () => {
    expect(await shown(cluster.ports.imaps, 'other.test')).not.toMatch(/Pebble/);
    expect(await shown(cluster.ports.imaps)).not.toMatch(/Pebble/);
  });

  test('a restart shows it again without asking the authority', async () => {
    await cluster.kill('gateway-1');
    await cluster.kill('gateway-2');
    await cluster.answering();
    await waitFor(
      'the certificate',
      async () => (await shown(cluster.ports.imaps, 'mx.acme.test')).includes('Pebble'),
      30_000,
    );
    const issued = (await cluster.logs()).filter(({ msg }) => msg === 'certificate issued');
    expect(issued).toHaveLength(1);
  }, 60_000);

  const ask = (path: string, host: string | undefined, method = 'GET'): Promise<string> =>
    new Promise((resolve, fail) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port: httpPort,
          path,
          method,
          setHost: false,
          headers: host === undefined ? {} : { host },
        },
        (answer) => resolve(`${answer.resume().statusCode} ${answer.headers.location ?? ''}`.trim()),
      );
      asked.on('error', fail);
      asked.end();
    });

  test('plain HTTP has nothing else: a token nobody knows, other methods, odd hosts; everybody else is sent to HTTPS', async () => {
    expect(await ask('/.well-known/acme-challenge/nothing', 'mx.acme.test')).toBe('404');
    expect(await ask('/.well-known/acme-challenge/..%2f..%2fsecret', 'mx.acme.test')).toBe('404');
    expect(await ask('/', 'mx.acme.test', 'POST')).toBe('405');
    expect(await ask('/', 'mx.acme.test/evil@x')).toBe('400');
    expect(await ask('/a?b=c', 'mx.acme.test:80')).toBe('308 https://mx.acme.test/a?b=c');
  });
});
