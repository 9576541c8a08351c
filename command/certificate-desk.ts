/**
 * Answers requests for certificates that stand in the registry: those of machines
 * that join with a token, and those of machines that renew. Runs in the
 * supervisor of every machine that has the key of the CA; the registry lets one
 * answer through.
 */
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../certs/authority.ts';
import {
  type CertificateAnswer,
  type CertificateRequest,
  issue,
  isWarranted,
  readRequest,
  renewalKey,
  tokenKey,
} from '../certs/request.ts';
import { type MachineRecord, readMachineRecord } from '../cluster-protocol/machines.ts';
import { follow } from '../cluster-protocol/registry/follow.ts';
import { type Change, type Condition, type Registry, registryKey } from '../cluster-protocol/registry.ts';

/** Requests that wait here at once; the asker asks again. */
const waitingMax = 100;
const triesMax = 3;
/** How long an answer stands for the asker to fetch it. */
const answerLeaseMs = 60_000;

export interface DeskOptions {
  readonly registry: Registry;
  readonly authority: Authority;
  readonly cluster: string;
  readonly lifeMs: number;
  readonly log: Log;
  nowMs(): number;
}

export class CertificateDesk {
  readonly #options: DeskOptions;
  readonly #waiting = new Map<string, string>();
  #working = false;

  constructor(options: DeskOptions, signal: AbortSignal) {
    this.#options = options;
    const take = (key: string, value: string): void => {
      const id = key.slice(registryKey.certificateRequestPrefix.length);
      if (this.#waiting.size < waitingMax) this.#waiting.set(id, value);
      void this.#work(signal);
    };
    follow(
      options.registry,
      [registryKey.certificateRequestPrefix],
      {
        reset: (entries) => {
          for (const { key, value } of entries) take(key, value);
        },
        event: ({ kind, key, value }) => {
          if (kind === 'put') take(key, value);
        },
      },
      signal,
    );
  }

  async #work(signal: AbortSignal): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    try {
      for (const [id, raw] of this.#waiting) {
        this.#waiting.delete(id);
        if (signal.aborted) return;
        await this.#answer(id, raw).catch((error: unknown) =>
          this.#options.log.warn({ request: id, error: Fault.from(error).message }, 'certificate request'),
        );
      }
    } finally {
      this.#working = false;
    }
  }

  async #answer(id: string, raw: string): Promise<void> {
    const { registry, log } = this.#options;
    const key = registryKey.certificateAnswer(id);
    for (let tried = 0; tried < triesMax; tried++) {
      if ((await registry.get(key)) !== undefined) return;
      const { request, refused, conditions, changes } = await this.#judge(raw);
      const answer: CertificateAnswer =
        refused === undefined
          ? await issue(request!, this.#options.authority, this.#options.lifeMs, this.#options.nowMs())
          : { refused };
      const lease = await registry.grantLease(answerLeaseMs);
      const { done } = await registry.transact(
        [{ key, is: 'absent' }, ...conditions],
        [...changes, { put: key, value: JSON.stringify(answer), lease }],
      );
      if (done) {
        const machine = request?.body.machine;
        if (refused === undefined)
          log.info({ machine, joins: request?.body.token !== undefined }, 'certificates issued');
        else log.warn({ machine, refused }, 'certificates refused');
        return;
      }
      await registry.revokeLease(lease);
    }
  }

  /** May it have what it asks for? And what has to hold, and to change, when it gets it. */
  async #judge(raw: string): Promise<{
    request?: CertificateRequest;
    refused?: string;
    conditions: Condition[];
    changes: Change[];
  }> {
    const { registry, authority, cluster, nowMs } = this.#options;
    const none = { conditions: [], changes: [] };
    let request: CertificateRequest;
    try {
      request = readRequest(raw);
    } catch (error) {
      return { ...none, refused: Fault.from(error).message };
    }
    const refuse = (refused: string) => ({ ...none, request, refused });
    const { body } = request;
    if (body.cluster !== cluster) return refuse(`this is cluster ${cluster}`);
    const machineKey = registryKey.machine(body.machine);
    const machine = await registry.get(machineKey);
    if (body.token === undefined) {
      const known = machine && readMachineRecord(machine.value);
      const key = known?.id === body.machineId ? renewalKey(request, authority, nowMs()) : undefined;
      if (machine === undefined || key === undefined || !isWarranted(request, key))
        return refuse(
          `machine ${body.machine} is not in the cluster, or its certificate has run out: have it join again`,
        );
      return {
        request,
        conditions: [{ key: machineKey, is: 'at', revision: machine.revision }],
        changes: [],
      };
    }
    const tokenName = registryKey.joinToken(body.token);
    const token = await registry.get(tokenName);
    const key = token && tokenKey(cluster, body.token, token.value, authority, nowMs());
    if (token === undefined || key === undefined || !isWarranted(request, key))
      return refuse(
        'the token was used, has expired, or is none of this cluster; make another with "postern cluster token"',
      );
    if (machine !== undefined)
      return refuse(
        `there is a machine ${body.machine} already; choose another cluster.machine, or "postern cluster leave ${body.machine}" first`,
      );
    const record: MachineRecord = {
      name: body.machine,
      id: body.machineId,
      signer: false,
      joinedMs: nowMs(),
    };
    return {
      request,
      conditions: [
        { key: tokenName, is: 'at', revision: token.revision },
        { key: machineKey, is: 'absent' },
      ],
      // A token is good for one machine: it goes in the transaction that lets the machine in.
      changes: [{ remove: tokenName }, { put: machineKey, value: JSON.stringify(record) }],
    };
  }
}
