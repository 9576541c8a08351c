/** ACME at one gateway: shows what was issued, answers challenges, and renews where certificates are asked for. */
import path from 'node:path';
import type { Log } from '../../base/log.ts';
import type { Place } from '../../base/settings.ts';
import type { Registry } from '../../cluster-protocol/registry.ts';
import type { TlsContexts } from '../net/tls-contexts.ts';
import { followAcme } from './acme-state.ts';
import { type HttpChallengeDoor, openHttpChallengeDoor } from './http-challenge-door.ts';
import { startRenewer } from './renewer.ts';
import { type AcmeSettings, certificatesAsked } from './settings.ts';

export interface Acme {
  readonly door: HttpChallengeDoor;
  close(): Promise<void>;
}

/** @throws {Fault} `bad-config` */
export function openAcme(options: {
  readonly registry: Registry;
  readonly log: Log;
  readonly member: string;
  readonly settings: AcmeSettings;
  readonly place: Place;
  readonly configDir: string;
  readonly tls: Pick<TlsContexts, 'setIssued'>;
  /** From connection to the whole header of a request. */
  readonly waitMs: number;
}): Acme {
  const { registry, log, member, settings, tls } = options;
  const certificates = certificatesAsked(settings, options.place);
  const end = new AbortController();
  const state = followAcme(registry, log, end.signal, (pairs) => tls.setIssued(pairs));
  const door = openHttpChallengeDoor(state, options.waitMs);
  const { 'acme.ca': ca } = settings;
  const renewer =
    certificates.length === 0
      ? undefined
      : startRenewer({
          ...{ registry, state, log, member, certificates },
          directoryUrl: settings['acme.directory'],
          caFile: ca === '' ? '' : path.resolve(options.configDir, ca),
          email: settings['acme.email'],
          renewBeforeMs: settings['acme.renew_before'],
        });
  return {
    door,
    async close() {
      end.abort();
      door.close();
      await renewer?.close();
    },
  };
}
