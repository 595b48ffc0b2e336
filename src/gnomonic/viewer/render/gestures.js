/** Moving the map by hand: drag, wheel, pinch, double click and keys. */

/** @typedef {import("./camera.js").Camera} Camera */
/** @typedef {{x: number, y: number}} Point */

const STEP = 90;
/** Pixels within which a press and its release are a click. */
const STILL = 4;

/**
 * @param {HTMLElement} element
 * @param {Camera} camera
 * @param {{tool: () => string, signal: AbortSignal}} options
 */
export function listen(element, camera, { tool, signal }) {
  followPointers(element, camera, tool, signal);
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 300 : 1;
    // A pinch on a touchpad comes as a wheel with ctrl held, in smaller steps.
    const speed = event.ctrlKey ? 0.01 : 0.0028;
    const by = Math.max(-1.2, Math.min(1.2, -event.deltaY * unit * speed));
    camera.zoomAt(Math.exp(by), ...placeOf(element, event));
  }, { passive: false, signal });
  element.addEventListener("dblclick", (event) => {
    if (tool() !== "pan") return;
    event.preventDefault();
    camera.zoomAt(event.shiftKey ? 1 / 2.2 : 2.2, ...placeOf(element, event), { animate: true });
  }, { signal });
  element.addEventListener("keydown", (event) => {
    // Keys that are pressed in a control on top of the map are the control's.
    if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
    if (press(event.key, event.shiftKey ? 3 * STEP : STEP, camera)) event.preventDefault();
  }, { signal });
}

/**
 * @param {string} key
 * @param {number} step
 * @param {Camera} camera
 */
function press(key, step, camera) {
  const { width, height } = camera.view;
  if (key === "ArrowLeft") camera.pan(step, 0);
  else if (key === "ArrowRight") camera.pan(-step, 0);
  else if (key === "ArrowUp") camera.pan(0, step);
  else if (key === "ArrowDown") camera.pan(0, -step);
  else if (key === "+" || key === "=") camera.zoomAt(1.6, width / 2, height / 2, { animate: true });
  else if (key === "-" || key === "_") camera.zoomAt(1 / 1.6, width / 2, height / 2, { animate: true });
  else if (key === "0") camera.fitAll();
  else return false;
  return true;
}

/**
 * @param {HTMLElement} element
 * @param {{clientX: number, clientY: number}} event
 * @returns {[number, number]}
 */
function placeOf(element, event) {
  const box = element.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/**
 * @param {HTMLElement} element
 * @param {Camera} camera
 * @param {() => string} tool
 * @param {AbortSignal} signal
 */
function followPointers(element, camera, tool, signal) {
  /** @type {Map<number, Point>} */
  const held = new Map();
  let travelled = 0;
  const begin = (/** @type {PointerEvent} */ event) => {
    // The middle button moves the map whatever the tool; what lies on top of the map keeps its own presses.
    const mine = event.button === 1 || (event.button === 0 && tool() === "pan");
    if (!mine || !isMap(event.target, element)) return;
    if (event.button === 1) event.preventDefault();
    const [x, y] = placeOf(element, event);
    if (!held.size) travelled = 0;
    held.set(event.pointerId, { x, y });
  };
  const move = (/** @type {PointerEvent} */ event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const [x, y] = placeOf(element, event);
    travelled += Math.hypot(x - before.x, y - before.y);
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    if (others.length === 1) pinch(camera, others[0], before, { x, y });
    else if (others.length === 0 && travelled > STILL) {
      // Captured only now, so that a click still reaches what lies under it.
      if (!element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
      element.classList.add("dragging");
      camera.pan(x - before.x, y - before.y);
    }
    held.set(event.pointerId, { x, y });
  };
  const end = (/** @type {PointerEvent} */ event) => {
    held.delete(event.pointerId);
    if (!held.size) element.classList.remove("dragging");
  };
  element.addEventListener("pointerdown", begin, { signal });
  element.addEventListener("pointermove", move, { signal });
  element.addEventListener("pointerup", end, { signal });
  element.addEventListener("pointercancel", end, { signal });
  element.addEventListener("lostpointercapture", end, { signal });
  // The release that ends a drag is not a click on a point.
  element.addEventListener("click", (event) => {
    if (travelled > STILL && tool() === "pan") event.stopImmediatePropagation();
  }, { capture: true, signal });
}

/**
 * @param {EventTarget | null} target
 * @param {HTMLElement} element
 */
function isMap(target, element) {
  return target === element || target instanceof HTMLCanvasElement;
}

/**
 * @param {Camera} camera
 * @param {Point} fixed  The finger that rests.
 * @param {Point} before
 * @param {Point} after
 */
function pinch(camera, fixed, before, after) {
  const from = Math.hypot(before.x - fixed.x, before.y - fixed.y);
  const to = Math.hypot(after.x - fixed.x, after.y - fixed.y);
  camera.pan((after.x - before.x) / 2, (after.y - before.y) / 2);
  if (from > 1 && to > 1) camera.zoomAt(to / from, (after.x + fixed.x) / 2, (after.y + fixed.y) / 2);
}
