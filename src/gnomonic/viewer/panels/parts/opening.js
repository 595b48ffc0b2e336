/** When a panel's work is done: not before there are points, and not before somebody looks. */

/** @typedef {import("../../types.js").App} App */

/** A map that draws nothing must not keep the rest waiting. */
const LONGEST_WAIT_MS = 1500;

/** @type {WeakMap<App, Promise<void>>} */
const shown = new WeakMap();

/**
 * Once the first frame is on the screen.
 *
 * @param {App} app
 * @returns {Promise<void>}
 */
export function afterPoints(app) {
  let promise = shown.get(app);
  if (!promise) {
    promise = new Promise((resolve) => {
      const isDrawn = () => app.renderer.stats().drawn > 0;
      // A map at rest draws no further frame that could tell.
      if (isDrawn()) return resolve();
      const timer = setTimeout(() => finish(), LONGEST_WAIT_MS);
      const stop = app.renderer.onFrame(() => {
        if (isDrawn()) finish();
      });
      const finish = () => {
        clearTimeout(timer);
        stop();
        resolve();
      };
    });
    shown.set(app, promise);
  }
  return promise;
}

/**
 * Run something when a panel is opened for the first time.
 *
 * @param {App} app
 * @param {string} name
 * @param {() => void} run
 */
export function onceOpen(app, name, run) {
  const stop = app.store.follow(
    ["panel"],
    (state) => {
      if (state.panel !== name) return;
      queueMicrotask(() => stop());
      afterPoints(app).then(run);
    },
    { now: true, signal: app.signal },
  );
}

/**
 * Run something whenever any of some keys changes while a panel is open, and when it is opened after such a change.
 *
 * @param {App} app
 * @param {string} name
 * @param {(keyof import("../../types.js").State)[]} keys
 * @param {() => void} run
 */
export function whileOpen(app, name, keys, run) {
  let stale = true;
  app.store.follow(
    [...keys, "panel"],
    (state, changed) => {
      if (keys.some((key) => changed.has(key))) stale = true;
      if (!stale || state.panel !== name) return;
      stale = false;
      afterPoints(app).then(run);
    },
    { now: true, signal: app.signal },
  );
}
