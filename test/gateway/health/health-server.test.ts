import { afterEach, describe, expect, test } from '@jest/globals';
import { chainMetrics, countingChain } from '../../../gateway/health/chain-metrics.ts';
import { type HealthServer, openHealthServer } from '../../../gateway/health/health-server.ts';
import { type Metrics, openMetrics } from '../../../gateway/health/metrics.ts';
import type { Chain } from '../../../gateway/plugin-host/chain.ts';
import { newSession } from '../../../gateway/session/new-session.ts';

let server: HealthServer;
let metrics: Metrics;
let ok = true;

async function open(): Promise<string> {
  metrics = openMetrics();
  const health = () => ({
    ok,
    member: 'gateway-1',
    state: 'serving',
    backends: ['backend-1'],
    connections: 3,
    stress: false,
  });
  server = await openHealthServer({ host: '127.0.0.1', port: 0 }, metrics, health);
  return `http://${server.address}`;
}

afterEach(() => {
  server.close();
  metrics.close();
});

const client = { address: '192.0.2.1', port: 1, network: '192.0.2.1', wideNetwork: '192.0.2.0/24' };

describe('health', () => {
  test('says 200 while serving and 503 when not, with the facts', async () => {
    const at = await open();
    ok = true;
    const well = await fetch(`${at}/healthz`);
    expect([well.status, await well.json()]).toEqual([
      200,
      {
        ok: true,
        member: 'gateway-1',
        state: 'serving',
        backends: ['backend-1'],
        connections: 3,
        stress: false,
      },
    ]);
    ok = false;
    expect((await fetch(`${at}/healthz`)).status).toBe(503);
  });

  test('metrics are a Prometheus page with what was counted', async () => {
    const at = await open();
    metrics.connections.inc({ protocol: 'imap' });
    metrics.logins.inc({ protocol: 'imap', outcome: 'failed' }, 2);
    const answer = await fetch(`${at}/metrics`);
    expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const page = await answer.text();
    expect(page).toMatch(/^postern_connections\{protocol="imap"\} 1$/m);
    expect(page).toMatch(/^postern_logins_total\{protocol="imap",outcome="failed"\} 2$/m);
    expect(page).toMatch(/^postern_event_loop_lag_seconds \d/m);
  });

  test('other paths and methods are refused', async () => {
    const at = await open();
    expect((await fetch(`${at}/etc/passwd`)).status).toBe(404);
    expect((await fetch(`${at}/healthz`, { method: 'POST', body: 'x' })).status).toBe(405);
  });

  test('a taken port is named with a remedy', async () => {
    const at = await open();
    const port = Number(new URL(at).port);
    await expect(
      openHealthServer({ host: '127.0.0.1', port }, metrics, () => ({}) as never),
    ).rejects.toMatchObject({
      code: 'port-taken',
      message: expect.stringMatching(/^listen\.health: 127\.0\.0\.1:\d+ is in use/),
    });
  });

  test('what plugins count is on the page; nonsense is not, and does no harm', async () => {
    await open();
    const counts = chainMetrics(metrics);
    counts.count('postern_plugin_x_seen_total', { plugin: 'x' }, 2);
    counts.count('postern_plugin_x_seen_total', { plugin: 'x' }, 3);
    counts.count('postern_plugin_x_seen_total', { other: 'label' }, 1);
    counts.count('bad name\n', {}, 1);
    counts.count('postern_connections', {}, 1);
    for (let index = 0; index < 1000; index++) counts.count(`postern_plugin_many_${index}_total`, {}, 1);
    const page = await metrics.registry.metrics();
    expect(page).toMatch(/^postern_plugin_x_seen_total\{plugin="x"\} 5$/m);
    expect(page).not.toMatch(/bad name/);
    expect(page.match(/^postern_plugin_many_\d+_total/gm)!.length).toBeLessThanOrEqual(500);
  });

  test('messages are counted by what became of them', async () => {
    await open();
    const words = ['pass', 'defer', 'reject'] as const;
    let asked = 0;
    const inner = {
      ask: async () => ({ word: words[asked++]!, plugin: undefined }),
      tell: () => {},
      wants: () => true,
      close: async () => {},
    };
    const chain = countingChain(inner as unknown as Chain, metrics);
    const session = newSession('smtp', client, '[::]:25');
    for (const _ of words) await chain.ask('message', session, undefined as never);
    chain.tell('delivered', session, { from: '', to: [] }, 1000);
    const page = await metrics.registry.metrics();
    expect(page).toMatch(/outcome="stored"\} 1$/m);
    expect(page).toMatch(/outcome="deferred"\} 1$/m);
    expect(page).toMatch(/outcome="refused"\} 1$/m);
    expect(page).toMatch(/^postern_message_bytes_total 1000$/m);
  });
});
