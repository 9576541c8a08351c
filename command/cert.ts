/** `postern cert …` */
import { Fault } from '../base/fault.ts';
import { askCluster } from './admin-client.ts';
import type { CertificateSummary } from './certificates.ts';
import { type CommandCall, exitCode } from './command.ts';

async function all(call: CommandCall): Promise<readonly CertificateSummary[]> {
  const answer = await askCluster<{ certificates: CertificateSummary[] }>(call.where, { op: 'cert-list' });
  return answer.certificates;
}

export async function list(call: CommandCall): Promise<number> {
  const certificates = await all(call);
  const width = Math.max(...certificates.map(({ name }) => name.length));
  const lines = certificates.map(
    ({ name, validTo, file }) => `${name.padEnd(width)}  until ${validTo.slice(0, 10)}  ${file}\n`,
  );
  call.print({ certificates }, lines.join(''));
  return exitCode.done;
}

export async function show(call: CommandCall): Promise<number> {
  const wanted = call.positionals[0]!;
  const certificates = await all(call);
  const found = certificates.find(({ name }) => name === wanted);
  if (found === undefined)
    throw new Fault(
      'bad-argument',
      `there is no certificate "${wanted}"; there is: ${certificates.map(({ name }) => name).join(', ')}`,
    );
  call.print(
    found,
    [
      `${found.name}`,
      `  file         ${found.file}`,
      `  subject      ${found.subject}`,
      `  names        ${found.names.join(', ') || 'none'}`,
      `  valid        ${found.validFrom} to ${found.validTo}`,
      `  fingerprint  SHA-256 ${found.fingerprint256}`,
      '',
    ].join('\n'),
  );
  return exitCode.done;
}

export async function renew(call: CommandCall): Promise<number> {
  const name = call.positionals[0];
  const { renewed } = await askCluster<{ renewed: string[] }>(call.where, {
    op: 'cert-renew',
    ...(name === undefined ? {} : { name }),
  });
  call.print({ renewed }, `${renewed.join(', ')} renewed; shown after the next start\n`);
  return exitCode.done;
}
