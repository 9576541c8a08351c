/** What an admin can set about the cluster as a whole: leases and the number of shards. */
import type { SettingsTable, ValuesOf } from '../base/settings.ts';

export const clusterSettings = {
  'cluster.lease': {
    kind: 'duration',
    default: '3s',
    min: '1s',
    max: '5m',
    doc: 'How long a member that has fallen silent keeps its accounts before others may take them.',
  },
  'cluster.lease_margin': {
    kind: 'duration',
    default: '500ms',
    min: '100ms',
    max: '1m',
    doc: 'How much earlier than that a member itself stops; must be well under cluster.lease.',
  },
  'cluster.shards': {
    kind: 'count',
    default: 4096,
    min: 1,
    max: 65536,
    doc: 'Parts the accounts are hashed into. Read only when the cluster is created; fixed from then on.',
  },
} as const satisfies SettingsTable;

export type ClusterSettings = ValuesOf<typeof clusterSettings>;
