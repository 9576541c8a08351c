/** Small databases in the MaxMind DB format 2.0, for tests: IPv4 networks and what is known of them. */

type Value = string | number | { readonly [key: string]: Value };
type Tree = { left?: Tree | number; right?: Tree | number };

export function mmdbOf(entries: readonly (readonly [network: string, data: Value])[]): Buffer {
  const datas: Buffer[] = [];
  let dataBytes = 0;
  const root: Tree = {};
  for (const [network, data] of entries) {
    const bytes = encoded(data);
    insert(root, network, dataBytes);
    datas.push(bytes);
    dataBytes += bytes.length;
  }
  const nodes: Tree[] = [];
  const number = (tree: Tree): void => {
    nodes.push(tree);
    for (const side of [tree.left, tree.right]) if (typeof side === 'object') number(side);
  };
  number(root);
  const indexes = new Map(nodes.map((node, index) => [node, index]));
  const search = Buffer.alloc(nodes.length * 6);
  for (const [index, node] of nodes.entries()) {
    for (const [at, side] of [node.left, node.right].entries()) {
      const value =
        side === undefined
          ? nodes.length
          : typeof side === 'number'
            ? side + nodes.length + 16
            : indexes.get(side)!;
      search.writeUIntBE(value, index * 6 + at * 3, 3);
    }
  }
  const metadata = encoded({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1,
    database_type: 'Test',
    ip_version: 4,
    node_count: nodes.length,
    record_size: 24,
  });
  return Buffer.concat([
    search,
    Buffer.alloc(16),
    ...datas,
    Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1'),
    metadata,
  ]);
}

function insert(root: Tree, network: string, data: number): void {
  const [address = '', length] = network.split('/');
  const bits = address
    .split('.')
    .map((byte) => Number(byte).toString(2).padStart(8, '0'))
    .join('')
    .slice(0, Number(length));
  let node = root;
  for (const [at, bit] of [...bits].entries()) {
    const side = bit === '0' ? 'left' : 'right';
    if (at === bits.length - 1) {
      node[side] = data;
      return;
    }
    const next = node[side];
    if (typeof next === 'object') node = next;
    else {
      const made: Tree = {};
      node[side] = made;
      node = made;
    }
  }
}

function encoded(value: Value): Buffer {
  if (typeof value === 'string')
    return Buffer.concat([control(2, Buffer.byteLength(value)), Buffer.from(value)]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return Buffer.concat([control(6, 4), bytes]);
  }
  const pairs = Object.entries(value).flatMap(([key, inner]) => [encoded(key), encoded(inner)]);
  return Buffer.concat([control(7, pairs.length / 2), ...pairs]);
}

function control(type: number, size: number): Buffer {
  return size < 29 ? Buffer.from([(type << 5) | size]) : Buffer.from([(type << 5) | 29, size - 29]);
}
