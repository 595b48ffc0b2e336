/** Rows that say the same, at any cut-off up to a bound, by the same rules as the server's (atlas/duplicates.py). */

import { SourceError } from "./transport.js";

/**
 * @typedef {import("../bits.js").Bits} Bits
 * @typedef {import("../types.js").ColumnInfo} ColumnInfo
 * @typedef {import("../types.js").Values} Values
 * @typedef {import("./static_files.js").StaticFiles} StaticFiles
 * @typedef {{metric: string, cutoff: number, bound: number, lengths: string[], grouped: boolean}} Told
 * @typedef {{positions: Uint32Array, ranks: Uint32Array, groups: Int32Array, leads: Uint8Array, lengths: string}} Nodes
 *   Rows in row order: where each is on the map, which came first, its group, and whether it leads it.
 * @typedef {{groups: number[][], rows: number, deletable: number}} Groups  Positions, the one that is kept first.
 */

const NO_TEXT = 4294967295;
const RULES = ["first", "longest", "newest", "central"];

/** @param {string} message */
function refused(message) {
  return new SourceError(message, 400);
}

export class StaticDuplicates {
  /** @type {{key: string, groups: Promise<Groups>} | null} */
  #last = null;

  /**
   * @param {StaticFiles} files
   * @param {Told} told  Of export.json.
   * @param {Bits | null} living
   * @param {{textField: () => Promise<string | null>, columns: () => Promise<ColumnInfo[]>,
   *   whole: (column: ColumnInfo) => Promise<Values>}} fields
   */
  constructor(files, told, living, fields) {
    this.files = files;
    this.told = told;
    this.living = living;
    this.fields = fields;
  }

  /**
   * The groups of two rows or more that are not gone, the largest first.
   *
   * @param {number} cutoff
   * @param {string} keep  Which row of a group is kept.
   * @param {string | null} by  The column that decides.
   * @returns {Promise<Groups>}
   */
  groups(cutoff, keep, by) {
    const key = JSON.stringify([cutoff, keep, by]);
    if (this.#last?.key === key) return this.#last.groups;
    const groups = this.#made(cutoff, keep, by);
    const entry = { key, groups };
    this.#last = entry;
    groups.catch(() => {
      if (this.#last === entry) this.#last = null;
    });
    return groups;
  }

  /** @param {number} cutoff @param {string} keep @param {string | null} by */
  async #made(cutoff, keep, by) {
    if (!RULES.includes(keep)) throw refused(`Which row to keep is “${keep}”; choose one of ${RULES.join(", ")}.`);
    const nodes = await this.#nodes(cutoff);
    return grouped(nodes, await this.#worth(nodes, keep, by), this.living);
  }

  /** @param {number} cutoff @returns {Promise<Nodes>} */
  async #nodes(cutoff) {
    const { metric, bound, grouped: known } = this.told;
    if (!(cutoff >= 0 && cutoff <= bound)) {
      const most = Number(bound.toPrecision(3));
      throw refused(`This map without a server knows duplicates up to a cut-off of ${most}.`);
    }
    if (known && cutoff === this.told.cutoff) {
      const { arrays } = await this.files.packed("duplicates/groups.bin");
      const leads = Uint8Array.from(arrays.classes, (one) => (one === 1 ? 1 : 0));
      return {
        positions: /** @type {Uint32Array} */ (arrays.positions),
        ranks: /** @type {Uint32Array} */ (arrays.ranks),
        groups: Int32Array.from(arrays.groups),
        leads,
        lengths: "duplicates/group_lengths.bin",
      };
    }
    const { arrays } = await this.files.packed("duplicates/edges.bin");
    const groups = leadersOf(/** @type {any} */ (arrays), metric, cutoff);
    return {
      positions: /** @type {Uint32Array} */ (arrays.positions),
      ranks: /** @type {Uint32Array} */ (arrays.ranks),
      groups,
      leads: Uint8Array.from(groups, (leader, node) => (leader === node ? 1 : 0)),
      lengths: "duplicates/lengths.bin",
    };
  }

  /**
   * What makes a row the one to keep; the most does.
   *
   * @param {Nodes} nodes
   * @param {string} keep
   * @param {string | null} by
   * @returns {Promise<Float64Array>}
   */
  async #worth(nodes, keep, by) {
    if (keep === "central") return Float64Array.from(nodes.leads);
    if (keep === "first") return Float64Array.from(nodes.ranks, (rank) => -rank);
    if (keep === "longest") {
      const name = by ?? (await this.fields.textField());
      const place = name === null ? -1 : this.told.lengths.indexOf(name);
      if (place < 0) throw refused("Keeping the longest needs a column of texts.");
      const { arrays } = await this.files.packed(nodes.lengths);
      return Float64Array.from(arrays[place], (length) => (length === NO_TEXT ? -Infinity : length));
    }
    const columns = await this.fields.columns();
    const column = by === null ? columns.find((one) => one.kind === "date") : columns.find((one) => one.name === by);
    if (!column || !["date", "integer", "number"].includes(column.kind)) {
      throw refused("Keeping the newest needs a column of dates or numbers.");
    }
    const values = await this.fields.whole(column);
    return Float64Array.from(nodes.positions, (position) => {
      return Number.isNaN(values[position]) ? -Infinity : values[position];
    });
  }
}

/**
 * @param {Nodes} nodes
 * @param {Float64Array} worth
 * @param {Bits | null} living
 * @returns {Groups}
 */
function grouped(nodes, worth, living) {
  /** @type {Map<number, number[]>} Nodes of each group, in row order. */
  const members = new Map();
  nodes.positions.forEach((position, node) => {
    if (living && !living.has(position)) return;
    const known = members.get(nodes.groups[node]);
    if (known) known.push(node);
    else members.set(nodes.groups[node], [node]);
  });
  // Groups were met by their first rows, and sorting keeps that order among those of a size.
  const large = [...members.values()].filter((one) => one.length > 1).sort((a, b) => b.length - a.length);
  let rows = 0;
  const groups = large.map((some) => {
    rows += some.length;
    const kept = some.reduce((best, node) => (worth[node] > worth[best] ? node : best));
    return [kept, ...some.filter((node) => node !== kept)].map((node) => nodes.positions[node]);
  });
  return { groups, rows, deletable: rows - groups.length };
}

/**
 * The node that leads each node's group: rows at distance 0 are one, and the row with the most edges takes those that a
 * path of at most the cut-off joins to it, then the row with the most of what is left.
 *
 * @param {{degrees: Uint16Array, ends: Uint32Array, distances: Float32Array}} edges  Of each node, nearest first.
 * @param {string} metric
 * @param {number} cutoff
 * @returns {Int32Array}
 */
export function leadersOf({ degrees, ends, distances }, metric, cutoff) {
  const angles = metric === "cosine";
  const limit = angles ? Math.PI * Math.min(cutoff, 1) : cutoff;
  const farthest = angles ? 1 - Math.cos(limit) : cutoff;
  const parent = Int32Array.from(degrees, (_, node) => node);
  const root = (/** @type {number} */ node) => {
    while (parent[node] !== node) node = parent[node] = parent[parent[node]];
    return node;
  };
  /** @param {(from: number, to: number, distance: number) => void} use */
  const eachEdge = (use) => {
    let at = 0;
    for (let node = 0; node < degrees.length; node++) {
      for (const last = at + degrees[node]; at < last; at++) {
        if (distances[at] <= farthest) use(node, ends[at], distances[at]);
      }
    }
  };
  eachEdge((from, to, distance) => {
    if (distance > 0) return;
    const [a, b] = [root(from), root(to)];
    parent[Math.max(a, b)] = Math.min(a, b);
  });
  /** @type {[number, number][][]} */
  const edges = Array.from(degrees, () => []);
  eachEdge((from, to, distance) => {
    const [a, b] = [root(from), root(to)];
    if (a === b) return;
    const away = angles ? Math.acos(1 - Math.min(distance, 2)) : distance;
    edges[a].push([b, away]);
    edges[b].push([a, away]);
  });
  const leader = ledBy(edges, limit);
  return leader.map((_, node) => (leader[root(node)] < 0 ? root(node) : leader[root(node)]));
}

/**
 * @param {[number, number][][]} edges
 * @param {number} limit
 */
function ledBy(edges, limit) {
  const leader = new Int32Array(edges.length).fill(-1);
  const order = Array.from(edges.keys()).filter((node) => edges[node].length);
  order.sort((a, b) => edges[b].length - edges[a].length || a - b);
  for (const first of order) {
    if (leader[first] >= 0) continue;
    /** @type {[number, number][]} */
    const queue = [[0, first]];
    while (queue.length) {
      const [far, node] = taken(queue);
      if (leader[node] >= 0) continue;
      leader[node] = first;
      for (const [other, away] of edges[node]) {
        if (leader[other] < 0 && (node === first || far + away <= limit)) put(queue, [far + away, other]);
      }
    }
  }
  return leader;
}

/** @param {[number, number]} a @param {[number, number]} b */
function before(a, b) {
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
}

/** Put into a heap. @param {[number, number][]} heap @param {[number, number]} entry */
function put(heap, entry) {
  let at = heap.length;
  heap.push(entry);
  while (at) {
    const above = (at - 1) >> 1;
    if (!before(entry, heap[above])) break;
    heap[at] = heap[above];
    at = above;
  }
  heap[at] = entry;
}

/** Take the least out of a heap. @param {[number, number][]} heap @returns {[number, number]} */
function taken(heap) {
  const least = heap[0];
  const last = /** @type {[number, number]} */ (heap.pop());
  if (!heap.length) return least;
  let at = 0;
  for (let below = 1; below < heap.length; below = 2 * at + 1) {
    if (below + 1 < heap.length && before(heap[below + 1], heap[below])) below++;
    if (!before(heap[below], last)) break;
    heap[at] = heap[below];
    at = below;
  }
  heap[at] = last;
  return least;
}
