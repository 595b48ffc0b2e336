/** The quadtree of a map, and what of it is loaded: coarse tiles first, those in view, a few at a time. */

import { isAbort, withTries } from "../data/columns.js";

/** @typedef {import("../types.js").Manifest} Manifest */
/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("../types.js").Tile} Tile */
/** @typedef {import("./camera.js").View} View */

/**
 * @typedef {object} TileNode
 * @property {number} index  Its place in the manifest.
 * @property {Tile} tile
 * @property {TileNode | null} parent
 * @property {(TileNode | null)[]} children  Lower left, lower right, upper left, upper right.
 * @property {number} below  Points of all tiles beneath it.
 * @property {number} left
 * @property {number} lower
 * @property {number} side
 * @property {Uint16Array | null} xy  All x, then all y.
 * @property {number[]} quarters  How many of its points lie in the square of each child.
 * @property {boolean} failed
 * @property {number} used  When it was last wanted.
 * @property {number} since  When it came.
 * @property {{controller: AbortController, promise: Promise<boolean>, pinned: boolean} | null} loading
 */

const PARALLEL = 6;

export class TileTree {
  /** @param {Manifest} manifest */
  constructor(manifest) {
    this.extent = manifest.extent;
    this.count = manifest.count;
    /** @type {Map<string, TileNode>} */
    const byKey = new Map();
    /** @type {TileNode[]} In map order. */
    this.nodes = manifest.tiles.map((tile, index) => {
      const side = manifest.extent.size / 2 ** tile.z;
      const parent = tile.z ? (byKey.get(`${tile.z - 1}/${tile.x >> 1}/${tile.y >> 1}`) ?? null) : null;
      const left = manifest.extent.x + tile.x * side;
      const lower = manifest.extent.y + tile.y * side;
      /** @type {TileNode} */
      const node = {
        index, tile, parent, left, lower, side, children: [null, null, null, null], below: 0, xy: null,
        quarters: [0, 0, 0, 0], failed: false, used: 0, since: 0, loading: null,
      };
      byKey.set(`${tile.z}/${tile.x}/${tile.y}`, node);
      if (parent) parent.children[(tile.x & 1) + 2 * (tile.y & 1)] = node;
      return node;
    });
    this.root = this.nodes.find((node) => node.tile.z === 0) ?? null;
    this.deepest = this.nodes.reduce((most, node) => Math.max(most, node.tile.z), 0);
    for (let i = this.nodes.length - 1; i >= 0; i--) {
      const { parent, below, tile } = this.nodes[i];
      if (parent) parent.below += below + tile.count;
    }
  }

  /** The tile that holds a map position. @param {number} position @returns {TileNode | null} */
  nodeOf(position) {
    if (!(position >= 0 && position < this.count)) return null;
    let low = 0;
    let high = this.nodes.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.nodes[middle].tile.offset <= position) low = middle;
      else high = middle - 1;
    }
    return this.nodes[low] ?? null;
  }

  /** Tiles that a view would show, coarse ones first. @param {View} view @returns {TileNode[]} */
  wanted(view) {
    // Below that side a tile has more points than the screen has pixels for them.
    const least = this.count <= 1_300_000 ? 12 : 96;
    const halfX = (view.width / 2 + 16) / view.scale;
    const halfY = (view.height / 2 + 16) / view.scale;
    /** @type {TileNode[]} */
    const found = [];
    let level = this.root ? [this.root] : [];
    while (level.length) {
      const meeting = level.filter((node) => {
        const far = node.left > view.x + halfX || node.left + node.side < view.x - halfX;
        return !far && node.lower <= view.y + halfY && node.lower + node.side >= view.y - halfY;
      });
      meeting.sort((a, b) => distance(a, view) - distance(b, view));
      found.push(...meeting.filter((node) => node.tile.count));
      const wide = meeting.filter((node) => (node.side / 2) * view.scale >= least);
      level = wide.flatMap((node) => node.children).filter((node) => node !== null);
    }
    return found;
  }
}

/**
 * Plane coordinates of a loaded tile's point.
 *
 * @param {TileNode} node
 * @param {number} i
 * @returns {[number, number]}
 */
export function pointOf(node, i) {
  const xy = /** @type {Uint16Array} */ (node.xy);
  const step = node.side / 65535;
  return [node.left + xy[i] * step, node.lower + xy[node.tile.count + i] * step];
}

/**
 * @param {TileNode} node
 * @param {View} view
 */
function distance(node, view) {
  return Math.hypot(node.left + node.side / 2 - view.x, node.lower + node.side / 2 - view.y);
}

/** How many points lie in each quarter of a tile. @param {Uint16Array} xy */
function quartersOf(xy) {
  const count = xy.length / 2;
  const quarters = [0, 0, 0, 0];
  for (let i = 0; i < count; i++) quarters[(xy[i] >> 15) + 2 * (xy[count + i] >> 15)]++;
  return quarters;
}

export class TileStream {
  bytes = 0;
  loaded = 0;
  /** @type {Set<TileNode>} */
  ready = new Set();
  #active = 0;
  #told = false;
  #round = 0;
  /** @type {TileNode[]} */
  #wanted = [];

  /**
   * @param {object} options
   * @param {Source} options.source
   * @param {AbortSignal} options.signal
   * @param {(text: string, kind?: "info" | "error") => void} options.say
   * @param {(node: TileNode) => void} options.came  Or cannot be had.
   * @param {(node: TileNode) => void} options.dropped
   * @param {(node: TileNode) => void} options.asked  A tile is being fetched; what goes with it may be as well.
   * @param {number} [options.mostBytes]
   */
  constructor({ source, signal, say, came, dropped, asked, mostBytes = 256 << 20 }) {
    this.source = source;
    this.signal = signal;
    this.say = say;
    this.came = came;
    this.dropped = dropped;
    this.asked = asked;
    this.mostBytes = mostBytes;
  }

  /** Load these, in this order, and stop loading others. @param {TileNode[]} nodes */
  want(nodes) {
    this.#round++;
    for (const node of nodes) node.used = this.#round;
    for (const node of this.#wanted) {
      if (node.used !== this.#round && node.loading && !node.loading.pinned) node.loading.controller.abort();
    }
    this.#wanted = nodes;
    this.#fill();
  }

  /** Load one whatever the view; false if that fails. @param {TileNode} node @returns {Promise<boolean>} */
  async need(node) {
    if (node.xy) return true;
    const loading = node.loading ?? this.#load(node);
    loading.pinned = true;
    return (await loading.promise) || (node.xy !== null);
  }

  /** Give those that failed another chance. @param {TileNode[]} nodes */
  forgive(nodes) {
    for (const node of nodes) node.failed = false;
    this.#fill();
  }

  /** Whether tiles of the view are on their way. */
  get loading() {
    return this.#wanted.some((node) => node.loading !== null);
  }

  #fill() {
    for (const node of this.#wanted) {
      if (this.#active >= PARALLEL) return;
      if (!node.xy && !node.loading && !node.failed) this.#load(node);
    }
  }

  /** @param {TileNode} node */
  #load(node) {
    const controller = new AbortController();
    this.#active++;
    this.asked(node);
    const promise = this.#fetch(node, controller.signal).finally(() => {
      node.loading = null;
      this.#active--;
      if (!this.signal.aborted) this.#fill();
    });
    node.loading = { controller, promise, pinned: false };
    return node.loading;
  }

  /**
   * @param {TileNode} node
   * @param {AbortSignal} signal
   */
  async #fetch(node, signal) {
    const { tile } = node;
    try {
      const xy = await withTries(async (attempt) => {
        const got = await this.source.tile(tile, attempt);
        if (got.length !== 2 * tile.count) throw new Error(`Tile ${tile.z}/${tile.x}/${tile.y} is damaged.`);
        return got;
      }, [signal, this.signal]);
      this.#keep(node, xy);
      return true;
    } catch (error) {
      if (isAbort(error)) return false;
      node.failed = true;
      if (!this.#told) this.say("Some points of the map could not be loaded.", "error");
      this.#told = true;
      this.came(node);
      return false;
    }
  }

  /**
   * @param {TileNode} node
   * @param {Uint16Array} xy
   */
  #keep(node, xy) {
    node.xy = xy;
    node.quarters = quartersOf(xy);
    node.since = performance.now();
    node.used = Math.max(node.used, this.#round);
    this.ready.add(node);
    this.loaded += node.tile.count;
    this.bytes += bytesOf(node);
    this.#evict();
    this.came(node);
  }

  #evict() {
    if (this.bytes <= this.mostBytes) return;
    const idle = [...this.ready].filter((node) => node.parent && node.used !== this.#round);
    idle.sort((a, b) => a.used - b.used);
    for (const node of idle) {
      if (this.bytes <= this.mostBytes) break;
      this.bytes -= bytesOf(node);
      this.loaded -= node.tile.count;
      this.ready.delete(node);
      this.dropped(node);
      node.xy = null;
    }
  }
}

/** Bytes of a tile here and on the GPU: positions, colour, size and order. @param {TileNode} node */
function bytesOf(node) {
  return 16 * node.tile.count;
}
