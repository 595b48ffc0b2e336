/** A tree of names with counts, of which only the lines in view are made: topics can be thousands. */

import { el, whole } from "../../dom.js";

/** @typedef {{id: number, parent: number | null, name: string, count: number}} TreeNode */
/** @typedef {{node: TreeNode, level: number, place: number, siblings: number, children: number}} Line */

const LINE_HEIGHT = 30;
const OVERSCAN = 6;

let made = 0;

export class TreeView {
  /** @type {Map<number | null, TreeNode[]>} */
  #children = new Map();
  /** @type {Map<number, TreeNode>} */
  #nodes = new Map();
  /** @type {Set<number>} */
  #open = new Set();
  /** @type {Set<number> | null} */
  #matching = null;
  /** @type {Line[]} */
  #lines = [];
  #active = 0;
  #chosen = -1;
  #prefix = `tree-${++made}-`;

  /**
   * @param {{label: string, nodes: TreeNode[], onChoose: (id: number, event: MouseEvent | KeyboardEvent) => void}}
   *   options
   */
  constructor({ label, nodes, onChoose }) {
    this.onChoose = onChoose;
    this.onToggle = () => {};
    for (const node of nodes) {
      this.#nodes.set(node.id, node);
      const family = this.#children.get(node.parent);
      if (family) family.push(node);
      else this.#children.set(node.parent, [node]);
    }
    for (const family of this.#children.values()) family.sort((a, b) => b.count - a.count);
    this.isFlat = this.#children.size < 2;
    this.largest = Math.max(1, ...(this.#children.get(null) ?? []).map((node) => node.count));
    this.space = el("div", { class: "tree-space", role: "presentation" });
    this.element = el("div", { class: "tree", role: "tree", tabindex: "0", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.#draw()).observe(this.element);
    this.#arrange();
  }

  get allOpen() {
    return this.#open.size > 0 && this.#open.size >= this.#children.size - 1;
  }

  toggleAll() {
    if (this.allOpen) this.#open.clear();
    else for (const id of this.#children.keys()) if (id !== null) this.#open.add(id);
    this.#arrange();
  }

  /**
   * Show only nodes with these letters in their names, and what they are in.
   *
   * @param {string} letters
   * @returns {number | null}  How many; null where all are shown.
   */
  find(letters) {
    const wanted = letters.trim().toLocaleLowerCase();
    let count = 0;
    this.#matching = wanted ? new Set() : null;
    for (const node of wanted ? this.#nodes.values() : []) {
      if (!node.name.toLocaleLowerCase().includes(wanted)) continue;
      count++;
      /** @type {TreeNode | undefined} */
      let above = node;
      while (above && !this.#matching?.has(above.id)) {
        this.#matching?.add(above.id);
        above = above.parent === null ? undefined : this.#nodes.get(above.parent);
      }
    }
    this.#active = 0;
    this.element.scrollTop = 0;
    this.#arrange();
    return wanted ? count : null;
  }

  /** Lists what is open, from the top. */
  #arrange() {
    const matching = this.#matching;
    const familyOf = (/** @type {number | null} */ id) => {
      const family = this.#children.get(id) ?? [];
      return matching ? family.filter((node) => matching.has(node.id)) : family;
    };
    /** @type {Line[]} */
    const lines = [];
    const add = (/** @type {number | null} */ id, /** @type {number} */ level) => {
      const family = familyOf(id);
      for (const [at, node] of family.entries()) {
        const children = familyOf(node.id).length;
        lines.push({ node, level, place: at + 1, siblings: family.length, children });
        if (children && this.#isOpen(node.id)) add(node.id, level + 1);
      }
    };
    add(null, 1);
    this.#lines = lines;
    this.#active = Math.min(this.#active, Math.max(0, lines.length - 1));
    this.space.style.height = `${lines.length * LINE_HEIGHT}px`;
    this.#draw();
    this.onToggle();
  }

  /** What is looked for is shown wherever it is. @param {number} id */
  #isOpen(id) {
    return this.#matching !== null || this.#open.has(id);
  }

  #draw() {
    const top = this.element.scrollTop;
    const first = Math.max(0, Math.floor(top / LINE_HEIGHT) - OVERSCAN);
    const last = Math.ceil((top + (this.element.clientHeight || 400)) / LINE_HEIGHT) + OVERSCAN;
    const drawn = this.#lines.slice(first, last).map((line, at) => this.#line(line, first + at));
    this.space.replaceChildren(...drawn);
    const active = this.#lines[this.#active];
    if (active) this.element.setAttribute("aria-activedescendant", this.#prefix + active.node.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /**
   * @param {Line} line
   * @param {number} at
   */
  #line({ node, level, place, siblings, children }, at) {
    const bar = el("span", { class: "tree-bar", "aria-hidden": "true" });
    bar.style.width = `${(100 * Math.min(1, node.count / this.largest)).toFixed(1)}%`;
    const line = el(
      "div",
      {
        class: at === this.#active ? "tree-line active" : "tree-line",
        role: "treeitem",
        id: this.#prefix + node.id,
        "data-at": at,
        "aria-level": level,
        "aria-posinset": place,
        "aria-setsize": siblings,
        "aria-expanded": children ? String(this.#isOpen(node.id)) : null,
        "aria-selected": String(node.id === this.#chosen),
        "aria-label": `${node.name}, ${whole(node.count)}`,
        title: node.name,
      },
      bar,
      el("span", { class: children ? "twisty" : "twisty none", "aria-hidden": "true" }),
      el("span", { class: "tree-name", dir: "auto" }, node.name),
      el("span", { class: "tree-count number" }, whole(node.count)),
    );
    line.style.top = `${at * LINE_HEIGHT}px`;
    line.style.paddingInlineStart = `${(level - 1) * 14 + 2}px`;
    return line;
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = event.target instanceof Element ? event.target : null;
    const at = Number(target?.closest("[data-at]")?.getAttribute("data-at") ?? -1);
    const line = this.#lines[at];
    if (!line) return;
    this.#active = at;
    if (target?.closest(".twisty") && line.children) this.#toggle(line.node.id);
    else this.#choose(event);
  }

  /** @param {MouseEvent | KeyboardEvent} event */
  #choose(event) {
    const line = this.#lines[this.#active];
    if (!line) return;
    this.#chosen = line.node.id;
    this.#draw();
    this.onChoose(line.node.id, event);
  }

  /** Nothing is chosen any more. */
  unchoose() {
    if (this.#chosen === -1) return;
    this.#chosen = -1;
    this.#draw();
  }

  /**
   * @param {number} id
   * @param {boolean} [open]
   */
  #toggle(id, open = !this.#open.has(id)) {
    if (open) this.#open.add(id);
    else this.#open.delete(id);
    this.#arrange();
  }

  /** The keys of trees, as screen readers' users know them. @param {KeyboardEvent} event */
  #key(event) {
    const line = this.#lines[this.#active];
    if (!line || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / LINE_HEIGHT) - 1);
    const closed = line.children > 0 && !this.#isOpen(line.node.id);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => this.#go(this.#active + 1),
      ArrowUp: () => this.#go(this.#active - 1),
      PageDown: () => this.#go(this.#active + page),
      PageUp: () => this.#go(this.#active - page),
      Home: () => this.#go(0),
      End: () => this.#go(this.#lines.length - 1),
      ArrowRight: () => (closed ? this.#toggle(line.node.id, true) : line.children && this.#go(this.#active + 1)),
      ArrowLeft: () => {
        if (line.children && this.#open.has(line.node.id)) this.#toggle(line.node.id, false);
        else this.#go(this.#lines.findIndex(({ node }) => node.id === line.node.parent));
      },
      Enter: () => this.#choose(event),
      " ": () => this.#choose(event),
    };
    const run = keys[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }

  /** @param {number} at */
  #go(at) {
    if (at < 0 && this.#active === 0) return;
    this.#active = Math.max(0, Math.min(at < 0 ? this.#active : at, this.#lines.length - 1));
    const top = this.#active * LINE_HEIGHT;
    const { element } = this;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + LINE_HEIGHT > element.scrollTop + element.clientHeight) {
      element.scrollTop = top + LINE_HEIGHT - element.clientHeight;
    }
    this.#draw();
  }
}
