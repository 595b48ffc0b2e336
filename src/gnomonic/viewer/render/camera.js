/** Where the view is on the plane, and how it moves. */

/** @typedef {import("../types.js").Camera} Place */
/** @typedef {import("../types.js").Manifest} Manifest */
/**
 * @typedef {Place & {width: number, height: number, ratio: number}} View  A place, the size of the element in CSS
 *   pixels, and device pixels a CSS pixel.
 */

const GLIDE_MS = 260;
/** Share of the view that a fitted box takes. */
const FILL = 0.92;

export class Camera {
  /** @type {View} */
  view = { x: 0, y: 0, scale: 1, width: 0, height: 0, ratio: 1 };
  /** When the view last changed. */
  movedAt = -Infinity;
  /** @type {{from: Place, to: Place, since: number} | null} */
  #glide = null;
  /** @type {(() => void) | null} What to show once there is a size. */
  #waiting = null;

  /**
   * @param {Manifest["extent"]} extent
   * @param {number} deepest  Level of the deepest tile.
   * @param {() => void} moved
   */
  constructor(extent, deepest, moved) {
    this.extent = extent;
    this.moved = moved;
    // As far in as a step of the deepest tile's positions is four pixels wide.
    this.most = (4 * 65535 * 2 ** Math.min(deepest, 24)) / extent.size;
    this.#waiting = () => this.fitAll({ animate: false });
  }

  /** @param {number} width @param {number} height @param {number} ratio */
  resize(width, height, ratio) {
    Object.assign(this.view, { width, height, ratio });
    if (width && height && this.#waiting) {
      const show = this.#waiting;
      this.#waiting = null;
      show();
    }
    this.moved();
  }

  get sized() {
    return this.#waiting === null;
  }

  get gliding() {
    return this.#glide !== null;
  }

  /** CSS pixels a unit when the whole map is shown. */
  get wholeScale() {
    return (FILL * Math.max(1, Math.min(this.view.width, this.view.height))) / this.extent.size;
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  toScreen(x, y) {
    const { view } = this;
    return [(x - view.x) * view.scale + view.width / 2, (view.y - y) * view.scale + view.height / 2];
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  toPlane(x, y) {
    const { view } = this;
    return [view.x + (x - view.width / 2) / view.scale, view.y - (y - view.height / 2) / view.scale];
  }

  /**
   * @param {Partial<Place>} target
   * @param {{animate?: boolean}} [options]
   */
  moveTo(target, { animate = true } = {}) {
    const to = this.#allowed({ x: this.view.x, y: this.view.y, scale: this.view.scale, ...target });
    if (!this.view.width || !this.view.height) {
      this.#waiting = () => this.moveTo(to, { animate: false });
      return;
    }
    const { x, y, scale } = this.view;
    if (!this.#glide && to.x === x && to.y === y && to.scale === scale) return;
    if (animate && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.#glide = { from: { x, y, scale }, to, since: performance.now() };
      this.moved();
    } else {
      this.#glide = null;
      this.#set(to);
    }
  }

  /**
   * @param {[number, number, number, number]} bounds  x0, y0, x1, y1.
   * @param {{animate?: boolean}} [options]
   */
  fit([x0, y0, x1, y1], options) {
    if (!this.view.width || !this.view.height) {
      this.#waiting = () => this.fit([x0, y0, x1, y1], { animate: false });
      return;
    }
    const least = this.extent.size / 4000;
    const scale = FILL * Math.min(
      this.view.width / Math.max(Math.abs(x1 - x0), least),
      this.view.height / Math.max(Math.abs(y1 - y0), least),
    );
    this.moveTo({ x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale }, options);
  }

  /** @param {{animate?: boolean}} [options] */
  fitAll(options) {
    const { x, y, size } = this.extent;
    this.fit([x, y, x + size, y + size], options);
  }

  /** Move by CSS pixels, as a hand on the map would. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.#glide = null;
    const { x, y, scale } = this.view;
    this.#set({ x: x - dx / scale, y: y + dy / scale, scale });
  }

  /**
   * Grow or shrink about a point of the screen, which stays where it is.
   *
   * @param {number} factor
   * @param {number} px
   * @param {number} py
   * @param {{animate?: boolean}} [options]
   */
  zoomAt(factor, px, py, { animate = false } = {}) {
    // Of a glide that is under way its end counts, so that steps add up.
    const base = animate && this.#glide ? this.#glide.to : this.view;
    const dx = (px - this.view.width / 2) / base.scale;
    const dy = (this.view.height / 2 - py) / base.scale;
    const scale = this.#allowed({ ...base, scale: base.scale * factor }).scale;
    const kept = 1 - base.scale / scale;
    this.moveTo({ x: base.x + dx * kept, y: base.y + dy * kept, scale }, { animate });
  }

  /** Follow a movement; whether it goes on. @param {number} now */
  step(now) {
    if (!this.#glide) return false;
    const { from, to, since } = this.#glide;
    const part = Math.min(1, Math.max(0, (now - since) / GLIDE_MS));
    if (part === 1) {
      this.#glide = null;
      this.#set(to);
      return false;
    }
    const eased = part < 0.5 ? 4 * part ** 3 : 1 - (2 - 2 * part) ** 3 / 2;
    const scale = from.scale * (to.scale / from.scale) ** eased;
    // The middle goes with the inverse of the scale: the path of a zoom about a fixed point.
    const inverse = 1 / to.scale - 1 / from.scale;
    const along = Math.abs(Math.log(to.scale / from.scale)) < 0.01 ? eased : (1 / scale - 1 / from.scale) / inverse;
    this.#set({ x: from.x + (to.x - from.x) * along, y: from.y + (to.y - from.y) * along, scale });
    return true;
  }

  /** @param {Place} place */
  #set(place) {
    Object.assign(this.view, this.#allowed(place));
    this.movedAt = performance.now();
    this.moved();
  }

  /** The nearest place that makes sense. @param {Place} place @returns {Place} */
  #allowed({ x, y, scale }) {
    const { extent } = this;
    const inside = (/** @type {number} */ value, /** @type {number} */ low) => {
      if (!Number.isFinite(value)) return low + extent.size / 2;
      return Math.min(low + 1.5 * extent.size, Math.max(low - 0.5 * extent.size, value));
    };
    const least = this.wholeScale / 8;
    const sound = Number.isFinite(scale) && scale > 0 ? scale : this.wholeScale;
    return {
      x: inside(x, extent.x),
      y: inside(y, extent.y),
      scale: Math.min(Math.max(this.most, least), Math.max(least, sound)),
    };
  }
}
