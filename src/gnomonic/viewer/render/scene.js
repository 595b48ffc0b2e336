/** What is to be seen: tiles with their colours, sizes and groups, as the page's state has them. */

import { channelOf, codesOf, colorChannel, sizeChannel } from "./coloring.js";
import { THEMES } from "./palette.js";
import { opacityAt, pointLook, typicalDensity } from "./spread.js";
import { CHOSEN, USUAL, arrange, groupsOf, heatStep, hottestOf, partInView } from "./states.js";
import { isAbort } from "../data/columns.js";

/** @typedef {import("../types.js").State} State */
/** @typedef {import("./camera.js").View} View */
/** @typedef {import("./coloring.js").Channel} Channel */
/** @typedef {import("./points.js").GroupLook} GroupLook */
/** @typedef {import("./points.js").Paint} Paint */
/** @typedef {import("./tiles.js").TileNode} TileNode */

/** How long a new tile waits for its colours before it is shown without. */
const COLORLESS_MS = 500;
/** The same of the first tile, without which there is nothing to see. */
const FIRST_MS = 250;
/** Share of a tile in view below which only that part of it is drawn. */
const MOST_OF_IT = 0.3;

export class Scene {
  /** @type {Map<TileNode, Paint>} */
  paints = new Map();
  /** @type {Channel} */
  color = channelOf();
  /** @type {Channel} */
  size = channelOf();
  /** @type {import("./states.js").PointState} */
  groups = { version: 0, passing: null, living: null, selection: null, heat: null, coolest: 0, hottest: 256 };
  /** Points a unit of area where they are usual: of those that pass, and of those that are chosen. */
  #usual = { version: -1, all: 0, chosen: 0 };
  /** @type {Map<string, number>} Which colours and sizes a tile has been asked for. */
  #asked = new Map();
  #chosenColor = 0;
  #chosenSize = 0;
  #told = new Set();
  /** Whether the colours that were asked for could not be had. */
  #colorless = false;
  /** Whether it is known what the map is coloured by. */
  #known = false;

  /**
   * @param {object} options
   * @param {import("./tiles.js").TileTree} options.tree
   * @param {import("../data/columns.js").Columns} options.columns
   * @param {AbortSignal} options.signal
   * @param {(text: string, kind?: "info" | "error") => void} options.say
   * @param {() => void} options.changed  There is something else to draw.
   * @param {() => void} options.recolored  The colours mean something else.
   */
  constructor({ tree, columns, signal, say, changed, recolored }) {
    this.tree = tree;
    this.columns = columns;
    this.signal = signal;
    this.say = say;
    this.changed = changed;
    this.recolored = recolored;
  }

  /** @param {State} state */
  async colorBy({ colorBy, heat }) {
    const turn = ++this.#chosenColor;
    if (heat) {
      this.#recolor(channelOf({ kind: "heat" }));
      return;
    }
    try {
      const channel = await colorChannel(this.columns, colorBy, this.tree.root?.tile ?? null);
      if (turn !== this.#chosenColor || this.signal.aborted) return;
      this.#colorless = false;
      this.#recolor(channel);
    } catch (error) {
      if (turn !== this.#chosenColor || isAbort(error) || this.signal.aborted) return;
      this.say("The map's colours could not be loaded.", "error");
      this.#colorless = true;
      this.#recolor(channelOf());
    }
  }

  /** @param {Channel} channel */
  #recolor(channel) {
    this.color = channel;
    this.#known = true;
    this.recolored();
    this.changed();
  }

  /** @param {State} state */
  async sizeBy({ sizeBy }) {
    const turn = ++this.#chosenSize;
    const channel = await sizeChannel(this.columns, sizeBy, this.tree.root?.tile ?? null).catch(() => channelOf());
    if (turn !== this.#chosenSize || this.signal.aborted) return;
    this.size = channel;
    this.changed();
  }

  /** @param {State} state */
  regroup({ passing, living, selection, heat, heatThreshold }) {
    const same = heat === this.groups.heat;
    this.groups = {
      version: this.groups.version + 1,
      passing: fitting(passing, this.tree.count),
      living: fitting(living, this.tree.count),
      selection: fitting(selection, this.tree.count),
      heat: heat && heat.values.length === this.tree.count ? heat : null,
      coolest: heat ? heatStep(heat, heatThreshold) : 0,
      hottest: same ? this.groups.hottest : heat ? hottestOf(heat) : 256,
    };
    this.changed();
  }

  /** @param {TileNode} node @returns {Paint} */
  paintOf(node) {
    let paint = this.paints.get(node);
    if (!paint) {
      paint = { node, codes: null, sizes: null, parts: null, gpu: null };
      this.paints.set(node, paint);
    }
    return paint;
  }

  /**
   * A tile as a view shows it: its groups up to date, colours and sizes asked for.
   *
   * @param {TileNode} node
   * @param {View} view
   */
  prepared(node, view) {
    const paint = this.paintOf(node);
    this.#arrange(paint, view);
    this.ask(node);
    if (paint.codes && paint.codes.version !== this.color.version) paint.codes = null;
    if (paint.sizes && paint.sizes.version !== this.size.version) paint.sizes = null;
    return paint;
  }

  /**
   * Milliseconds that a tile that is there may still wait for its colours; 0 and less where it is to be shown.
   *
   * @param {TileNode} node
   * @param {number} now
   */
  patience(node, now) {
    const codes = this.paints.get(node)?.codes;
    const known = this.color.column === null ? this.#known : codes?.version === this.color.version;
    return known ? 0 : node.since + (node.parent ? COLORLESS_MS : FIRST_MS) - now;
  }

  /** See to a tile's colours and sizes. @param {TileNode} node */
  ask(node) {
    const paint = this.paintOf(node);
    if (this.groups.heat && this.color.kind === "heat") {
      if (paint.codes?.version === this.color.version) return;
      const { offset, count } = node.tile;
      const array = this.groups.heat.values.subarray(offset, offset + count);
      paint.codes = { version: this.color.version, array };
    } else void this.#fetch(node, "codes", this.color);
    void this.#fetch(node, "sizes", this.size);
  }

  /**
   * @param {TileNode} node
   * @param {"codes" | "sizes"} what
   * @param {Channel} channel
   */
  async #fetch(node, what, channel) {
    const key = `${what} ${node.index}`;
    const { column, version } = channel;
    if (!column || this.#asked.get(key) === version) return;
    this.#asked.set(key, version);
    try {
      const array = codesOf(channel, await this.columns.tile(column, node.tile, this.signal));
      this.paintOf(node)[what] = { version, array };
    } catch (error) {
      if (isAbort(error)) return;
      this.paintOf(node)[what] = { version, array: null };
      if (!this.#told.has(column.id)) this.say(`Some values of ${column.name} could not be loaded.`, "error");
      this.#told.add(column.id);
    }
    if (node.xy) this.changed();
  }

  /** Ask once more for what could not be had. @param {State} state */
  forgive(state) {
    for (const [node, paint] of this.paints) {
      for (const what of /** @type {const} */ (["codes", "sizes"])) {
        if (paint[what] && !paint[what].array) this.#asked.delete(`${what} ${node.index}`);
      }
    }
    this.#told.clear();
    if (this.#colorless) void this.colorBy(state);
    this.changed();
  }

  /** @param {TileNode} node */
  forget(node) {
    this.paints.delete(node);
    this.#asked.delete(`codes ${node.index}`);
    this.#asked.delete(`sizes ${node.index}`);
  }

  /**
   * @param {Paint} paint
   * @param {View} view
   */
  #arrange(paint, view) {
    const { node, parts } = paint;
    const version = this.groups.version;
    const need = partInView(node, view, 0.05);
    const share = areaOf(need) / 65535 ** 2;
    const current = parts?.version === version;
    const held = parts?.within ?? null;
    if (current && !held && share > MOST_OF_IT / 2) return;
    // What was cut out before still does where it holds the view and not much more.
    if (current && held && holds(held, need) && areaOf(held) < 16 * areaOf(need)) return;
    const within = share > MOST_OF_IT ? null : partInView(node, view, 0.6);
    const groups = current ? parts.groups : groupsOf(node.tile, this.groups);
    paint.parts = { version, groups, within, ...arrange(node, groups, within) };
  }

  /** Points a unit of area where they are usual. */
  usual() {
    const { root, count } = this.tree;
    if (!root?.xy) return { all: 0, chosen: 0 };
    if (this.#usual.version !== this.groups.version) {
      const groups = groupsOf(root.tile, this.groups);
      const all = typicalDensity(root, count, groups, USUAL);
      this.#usual = { version: this.groups.version, all, chosen: typicalDensity(root, count, groups, CHOSEN) };
    }
    return this.#usual;
  }

  /** 1 where points lie on each other, 0 where they are apart. @param {number} scale */
  tone(scale) {
    return Math.min(1, Math.max(0, (0.9 - pointLook(this.usual().all, scale).alpha) / 0.3));
  }

  /** How much the colour of dense places is another one: little where shades mean something, or points stand out. */
  deepen() {
    if (this.color.kind === "number" || this.color.kind === "heat") return 0.2;
    return this.groups.selection ? 0.25 : 1;
  }

  /**
   * How the groups look at a scale.
   *
   * @param {number} scale
   * @param {import("./palette.js").Theme} theme
   * @param {State} state
   * @returns {GroupLook[]}
   */
  looks(scale, theme, { pointSize, density }) {
    const { all, chosen } = this.usual();
    const base = pointLook(all, scale);
    const radius = base.radius * pointSize;
    const [r, g, b] = THEMES[theme].faded.map((part) => part / 255);
    // Where the density is shown points come in as one gets near to them.
    const near = density ? Math.min(1, Math.max(0, (base.spacing - 5) / 9)) : 1;
    const dimmed = this.groups.selection !== null;
    const own = chosen > 0 ? opacityAt(base.radius, scale / Math.sqrt(chosen)) : 0.92;
    // Opaque, but not so that one point alone would pass for a dense place.
    const bold = Math.min(0.95 - 0.13 * this.tone(scale), 1.2 * Math.max(own, base.alpha));
    return [
      { radius: 0.85 * radius, alpha: Math.min(0.32, 0.3 * base.alpha) * near, tint: [r, g, b, 1] },
      { radius, alpha: base.alpha * (dimmed ? 0.3 : 1) * near, tint: [r, g, b, dimmed ? 0.55 : 0] },
      { radius: 1.15 * radius, alpha: Math.min(0.92, 1.5 * base.alpha) * (dimmed ? 0.3 : 1), tint: [r, g, b, 0] },
      { radius: 1.25 * radius + 0.25, alpha: bold, tint: [r, g, b, 0] },
    ];
  }
}

/** @param {[number, number, number, number]} box */
function areaOf([x0, y0, x1, y1]) {
  return Math.max(0, x1 - x0) * Math.max(0, y1 - y0);
}

/**
 * @param {[number, number, number, number]} outer
 * @param {[number, number, number, number]} inner
 */
function holds(outer, inner) {
  return outer[0] <= inner[0] && outer[1] <= inner[1] && outer[2] >= inner[2] && outer[3] >= inner[3];
}

/**
 * @param {import("../bits.js").Bits | null} bits
 * @param {number} count
 */
function fitting(bits, count) {
  return bits && bits.length === count ? bits : null;
}
