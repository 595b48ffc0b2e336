/** Small pictures of rows in the place of their points, where those are far enough apart to have room for them. */

import { SinglePictures } from "./single_pictures.js";
import { FADED, GONE } from "./states.js";
import { pointOf } from "./tiles.js";

/** @typedef {import("../types.js").Source} Source */
/** @typedef {import("./camera.js").Camera} Camera */
/** @typedef {import("./passes.js").Drawn} Drawn */
/** @typedef {import("./passes.js").Plan} Plan */
/** @typedef {import("./tiles.js").TileNode} TileNode */
/** @typedef {{node: TileNode, i: number, x: number, y: number, since: number}} Shown */

const CELL = 64;
const ACROSS = 32;
/** A sheet has pictures of so many of a tile's first points; those of others are asked for one by one. */
const ON_SHEET = 1024;
const MOST = 150;
/** Decoded sheets take 16 MB each. */
const SHEETS = 10;
const FADE_MS = 220;

export class Thumbnails {
  /** @type {Map<TileNode, {sheet: ImageBitmap | null, failed: boolean}>} The one used last at the end. */
  #sheets = new Map();
  /** @type {Map<number, Shown>} By map position. */
  #shown = new Map();

  /**
   * @param {Source} source
   * @param {AbortSignal} signal
   * @param {() => void} came
   */
  constructor(source, signal, came) {
    this.source = source;
    this.signal = signal;
    this.came = came;
    this.singles = new SinglePictures(source, signal, came);
    signal.addEventListener("abort", () => this.#close(0));
  }

  /**
   * Draw what there is room for; whether pictures are still fading in.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {object} options
   * @param {Camera} options.camera
   * @param {Plan} options.plan
   * @param {number} options.spacing  CSS pixels between points where they are as dense as usual.
   * @param {string} options.frame  Colour of the pictures' frames.
   */
  draw(context, { camera, plan, spacing, frame }) {
    const size = Math.round(Math.min(CELL, Math.max(30, spacing)));
    const now = performance.now();
    const placed = this.#place(camera, plan, size, now);
    let fading = false;
    context.strokeStyle = frame;
    context.lineWidth = 1;
    for (const one of placed.values()) {
      const picture = this.#pictureOf(one.node, one.i);
      if (!picture) continue;
      const alpha = Math.min(1, (now - one.since) / FADE_MS);
      fading ||= alpha < 1;
      context.globalAlpha = alpha;
      const [left, top] = [Math.round(one.x - size / 2), Math.round(one.y - size / 2)];
      const on = one.i < ON_SHEET ? one.i : 0;
      const [u, v] = [(on % ACROSS) * CELL, Math.floor(on / ACROSS) * CELL];
      context.drawImage(picture, u, v, CELL, CELL, left, top, size, size);
      context.strokeRect(left - 0.5, top - 0.5, size + 1, size + 1);
    }
    context.globalAlpha = 1;
    this.#shown = placed;
    return fading;
  }

  /**
   * What has a point's picture in it: a sheet, or the picture alone.
   *
   * @param {TileNode} node
   * @param {number} i
   */
  #pictureOf(node, i) {
    return i < ON_SHEET ? this.#sheets.get(node)?.sheet : this.singles.of(node.tile.offset + i);
  }

  /**
   * Which pictures go where, none over another; those shown already come first, so that they stay.
   *
   * @param {Camera} camera
   * @param {Plan} plan
   * @param {number} size
   * @param {number} now
   */
  #place(camera, plan, size, now) {
    /** @type {Map<number, Shown>} */
    const placed = new Map();
    const { width, height } = camera.view;
    const cell = size + 4;
    /** @type {Map<string, [number, number][]>} */
    const grid = new Map();
    const fits = (/** @type {number} */ x, /** @type {number} */ y) => {
      const [column, row] = [Math.floor(x / cell), Math.floor(y / cell)];
      for (let a = column - 1; a <= column + 1; a++) {
        for (let b = row - 1; b <= row + 1; b++) {
          if (grid.get(`${a} ${b}`)?.some(([u, v]) => Math.abs(u - x) < cell && Math.abs(v - y) < cell)) return false;
        }
      }
      const key = `${column} ${row}`;
      grid.set(key, [...(grid.get(key) ?? []), [x, y]]);
      return true;
    };
    const offer = (/** @type {TileNode} */ node, /** @type {number} */ i, /** @type {number} */ since) => {
      const [x, y] = camera.toScreen(...pointOf(node, i));
      if (x < -size || y < -size || x > width + size || y > height + size || placed.size >= MOST) return false;
      if (!fits(x, y)) return false;
      const fresh = since || (this.#pictureOf(node, i) ? now : 0);
      placed.set(node.tile.offset + i, { node, i, x, y, since: fresh });
      return true;
    };
    const groupsOf = new Map(plan.drawn.map((drawn) => [drawn.node, drawn.groups]));
    for (const { node, i, since } of this.#shown.values()) {
      if (!node.xy || !groupsOf.has(node) || !this.#pictureOf(node, i)) continue;
      if (isPlain(groupsOf.get(node), i)) offer(node, i, since);
    }
    let used = 0;
    for (const { node, groups } of plan.drawn) {
      // More sheets than are kept would push each other out, and be asked for again at every frame.
      if (used === SHEETS) break;
      const within = node.xy ? inSight(node, groups, camera) : [];
      if (!within.length) continue;
      used++;
      if (!this.#sheetOf(node)) continue;
      for (const i of within) if (placed.size < MOST && !placed.has(node.tile.offset + i)) offer(node, i, 0);
    }
    this.#placeSingles(plan, placed, offer);
    return placed;
  }

  /**
   * Pictures that are on no sheet, where there is room left; those that are not there keep it free until they come.
   *
   * @param {Plan} plan
   * @param {Map<number, Shown>} placed
   * @param {(node: TileNode, i: number, since: number) => boolean} offer
   */
  #placeSingles(plan, placed, offer) {
    /** @type {number[]} */
    const wanted = [];
    for (const { node, i } of offSheet(plan.drawn)) {
      if (placed.size >= MOST) break;
      const at = node.tile.offset + i;
      const picture = this.singles.of(at);
      if (picture === null || placed.has(at) || !offer(node, i, 0)) continue;
      if (!picture) wanted.push(at);
    }
    this.singles.want(wanted);
  }

  /** Ask again for what could not be had. */
  forgive() {
    this.singles.forgive();
    for (const [node, { failed }] of this.#sheets) if (failed) this.#sheets.delete(node);
    this.came();
  }

  /** Whether a tile's pictures are there; they are asked for if not. @param {TileNode} node */
  #sheetOf(node) {
    const known = this.#sheets.get(node);
    if (known) {
      this.#sheets.delete(node);
      this.#sheets.set(node, known);
      return known.sheet !== null;
    }
    const entry = { sheet: /** @type {ImageBitmap | null} */ (null), failed: false };
    this.#sheets.set(node, entry);
    this.source.thumbs(node.tile, this.signal).then((sheet) => {
      if (this.signal.aborted) return sheet?.close();
      entry.sheet = sheet;
      this.#close(SHEETS);
      if (sheet) this.came();
    }, () => (entry.failed = true));
    return false;
  }

  /** @param {number} most  Sheets to keep. */
  #close(most) {
    const held = [...this.#sheets].filter(([, { sheet }]) => sheet);
    for (const [node, { sheet }] of held.slice(0, Math.max(0, held.length - most))) {
      sheet?.close();
      this.#sheets.delete(node);
    }
  }
}

/**
 * Whether a point neither fades nor is gone.
 *
 * @param {Uint8Array | null | undefined} groups
 * @param {number} i
 */
function isPlain(groups, i) {
  return groups?.[i] !== FADED && groups?.[i] !== GONE;
}

/**
 * The points that are drawn, do not fade and are on no sheet.
 *
 * @param {Iterable<Drawn>} drawn
 */
function* offSheet(drawn) {
  for (const { node, index, spans } of drawn) {
    if (!node.xy || node.tile.count <= ON_SHEET) continue;
    for (const [begin, end] of spans) {
      for (let k = begin; k < end; k++) {
        const i = index ? index[k] : k;
        if (i >= ON_SHEET) yield { node, i };
      }
    }
  }
}

/**
 * The points of a tile that have a picture on its sheet and a place on the screen.
 *
 * @param {TileNode} node
 * @param {Uint8Array | null} groups
 * @param {Camera} camera
 */
function inSight(node, groups, camera) {
  const { width, height } = camera.view;
  const most = Math.min(ON_SHEET, node.tile.count);
  /** @type {number[]} */
  const found = [];
  for (let i = 0; i < most; i++) {
    if (!isPlain(groups, i)) continue;
    const [x, y] = camera.toScreen(...pointOf(node, i));
    if (x > -CELL && y > -CELL && x < width + CELL && y < height + CELL) found.push(i);
  }
  return found;
}
