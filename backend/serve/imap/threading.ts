/**
 * Threads of messages (RFC 5256 3): pure, without recursion, because a thread may
 * be as deep as a mailbox is large.
 */

import { type Steps, sorted } from './steps.ts';

export interface ThreadMessage {
  /** What the answer names it by. */
  readonly number: number;
  readonly sentMs: number;
  /** Base subject, as it is compared. */
  readonly subject: string;
  readonly isReply: boolean;
  readonly messageId: string;
  readonly references: readonly string[];
}

/** A node; without a message it only holds its children together. */
export interface ThreadNode {
  message: ThreadMessage | undefined;
  parent: ThreadNode | undefined;
  children: ThreadNode[];
}

/** Ancestors looked at for loops: with more, a link is left out, or time would be quadratic. */
const ancestorsMax = 1000;
/** Nodes between two yields. */
const stepNodes = 200;

/** @param messages  By sequence number, ascending. @returns Threads in the order of the answer. */
export function* threadBySubject(messages: readonly ThreadMessage[]): Steps<ThreadNode[]> {
  const threads = new Map<string, ThreadMessage[]>();
  let count = 0;
  for (const message of messages) {
    if (++count % stepNodes === 0) yield;
    const thread = threads.get(message.subject);
    if (thread === undefined) threads.set(message.subject, [message]);
    else thread.push(message);
  }
  const roots: ThreadNode[] = [];
  for (const thread of threads.values()) {
    let root: ThreadNode | undefined;
    for (const message of yield* sorted(thread, byDate)) {
      if (++count % stepNodes === 0) yield;
      if (root === undefined) root = newNode(message);
      else adopt(root, newNode(message));
    }
    roots.push(root!);
  }
  return yield* sorted(roots, byHead);
}

/** @param messages  By sequence number, ascending. @returns Threads in the order of the answer. */
export function* threadByReferences(messages: readonly ThreadMessage[]): Steps<ThreadNode[]> {
  const roots = yield* sortedThreads(yield* pruned(yield* linked(messages)));
  return yield* sortedThreads(yield* joinedBySubject(roots));
}

/** Step 1: every message and every message named, linked by references. @returns nodes without parent */
function* linked(messages: readonly ThreadMessage[]): Steps<ThreadNode[]> {
  const byId = new Map<string, ThreadNode>();
  const all: ThreadNode[] = [];
  const nodeOf = (id: string): ThreadNode => {
    let node = byId.get(id);
    if (node === undefined) {
      node = newNode(undefined);
      byId.set(id, node);
      all.push(node);
    }
    return node;
  };
  let count = 0;
  for (const message of messages) {
    if (++count % 20 === 0) yield;
    let node = message.messageId === '' ? undefined : nodeOf(message.messageId);
    if (node === undefined || node.message !== undefined) {
      // No id, or one that another message has: a node that nothing refers to.
      node = newNode(undefined);
      all.push(node);
    }
    node.message = message;
    let parent: ThreadNode | undefined;
    for (const id of message.references) {
      const next = nodeOf(id);
      if (parent !== undefined && next.parent === undefined && !isAncestor(next, parent)) adopt(parent, next);
      parent = next;
    }
    if (parent === undefined || parent === node.parent || isAncestor(node, parent)) continue;
    adopt(parent, node);
  }
  // Those that left for another parent are still named by the one before.
  for (const node of all) {
    if (++count % stepNodes === 0) yield;
    node.children = [...new Set(node.children)].filter((child) => child.parent === node);
  }
  return all.filter((node) => node.parent === undefined);
}

/** Step 3: nodes without a message go; their children take their places, but not many at the root. */
function* pruned(roots: readonly ThreadNode[]): Steps<ThreadNode[]> {
  let count = 0;
  for (const node of yield* postOrder(roots)) {
    if (++count % stepNodes === 0) yield;
    const kept: ThreadNode[] = [];
    for (const child of node.children) {
      if (child.message !== undefined) kept.push(child);
      else for (const grandchild of child.children) kept.push(grandchild);
    }
    for (const child of kept) child.parent = node;
    node.children = kept;
  }
  const out: ThreadNode[] = [];
  for (const root of roots) {
    if (++count % stepNodes === 0) yield;
    if (root.message === undefined && root.children.length < 2) {
      for (const child of root.children) {
        child.parent = undefined;
        out.push(child);
      }
    } else out.push(root);
  }
  return out;
}

/** Step 5: threads of one subject become one. */
function* joinedBySubject(roots: readonly ThreadNode[]): Steps<ThreadNode[]> {
  let count = 0;
  const bySubject = new Map<string, ThreadNode>();
  for (const root of roots) {
    if (++count % stepNodes === 0) yield;
    const { subject, isReply } = headOf(root);
    if (subject === '') continue;
    const known = bySubject.get(subject);
    const better =
      known === undefined ||
      (known.message !== undefined && root.message === undefined) ||
      (known.message !== undefined && root.message !== undefined && headOf(known).isReply && !isReply);
    if (better) bySubject.set(subject, root);
  }
  const kept = new Set<ThreadNode>(roots);
  for (const root of roots) {
    if (++count % stepNodes === 0) yield;
    const { subject, isReply } = headOf(root);
    const known = subject === '' ? undefined : bySubject.get(subject);
    // A root that was joined already stands below the one that is known now.
    if (known === undefined || known === root || root.parent !== undefined) continue;
    kept.delete(root);
    if (known.message === undefined && root.message === undefined) {
      for (const child of root.children) adopt(known, child);
    } else if (known.message === undefined || (isReply && !headOf(known).isReply)) {
      adopt(known, root);
    } else {
      const both = newNode(undefined);
      kept.delete(known);
      kept.add(both);
      adopt(both, known);
      adopt(both, root);
      bySubject.set(subject, both);
    }
  }
  return [...kept];
}

/** Step 6. */
function* sortedThreads(roots: readonly ThreadNode[]): Steps<ThreadNode[]> {
  let count = 0;
  for (const node of yield* postOrder(roots)) {
    if (++count % stepNodes === 0) yield;
    if (node.children.length > 1) node.children = yield* sorted(node.children, byHead);
  }
  return yield* sorted(roots, byHead);
}

function byHead(a: ThreadNode, b: ThreadNode): number {
  return byDate(headOf(a), headOf(b));
}

function byDate(a: ThreadMessage, b: ThreadMessage): number {
  return a.sentMs - b.sentMs || a.number - b.number;
}

/** A node's message, or its first child's. */
function headOf(node: ThreadNode): ThreadMessage {
  return (node.message ?? node.children[0]!.message)!;
}

function newNode(message: ThreadMessage | undefined): ThreadNode {
  return { message, parent: undefined, children: [] };
}

function adopt(parent: ThreadNode, child: ThreadNode): void {
  child.parent = parent;
  parent.children.push(child);
}

/** Is `node` the same as `of`, above it, or too far to tell? */
function isAncestor(node: ThreadNode, of: ThreadNode): boolean {
  let at: ThreadNode | undefined = of;
  for (let count = 0; at !== undefined; count++, at = at.parent) {
    if (at === node || count > ancestorsMax) return true;
  }
  return false;
}

/** Children before their parents. */
function* postOrder(roots: readonly ThreadNode[]): Steps<ThreadNode[]> {
  const order: ThreadNode[] = [...roots];
  for (let at = 0; at < order.length; at++) {
    if (at % stepNodes === 0) yield;
    for (const child of order[at]!.children) order.push(child);
  }
  return order.reverse();
}

/** `(1 2 (3)(4 5))`: a thread as the answer writes it. */
export function threadText(root: ThreadNode): string {
  let out = '(';
  const waiting: (ThreadNode | string)[] = [')', root];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next === 'string') {
      out += next;
      continue;
    }
    const { message, children } = next;
    if (message !== undefined) out += message.number;
    if (children.length === 0) continue;
    if (message !== undefined) out += ' ';
    if (children.length === 1) waiting.push(children[0]!);
    else for (let at = children.length - 1; at >= 0; at--) waiting.push(')', children[at]!, '(');
  }
  return out;
}
