/** How many files and sockets a process holds. */
import { readdir } from 'node:fs/promises';

export async function openDescriptors(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}
