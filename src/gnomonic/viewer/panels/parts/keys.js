/** Keys that work wherever one is on the page, but not while one types. */

/** @typedef {import("../../types.js").App} App */

const TYPED = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";

/**
 * Listen to keys that nothing else wants.
 *
 * @param {App} app
 * @param {(event: KeyboardEvent) => void} run
 */
export function onKeys(app, run) {
  const listen = (/** @type {KeyboardEvent} */ event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    // The map may be a part of somebody else's page: keys pressed in the rest of it are theirs.
    const ours = app.root.contains(target) || target === document.body;
    if (!ours || event.defaultPrevented || event.isComposing || target.closest(TYPED)) return;
    // What a browser fills in by itself comes as keys without a name.
    if (typeof event.key !== "string") return;
    run(event);
  };
  document.addEventListener("keydown", listen, { signal: app.signal });
}
