/** Short messages, and what is said while the server does not answer. */

import { el, fill } from "../dom.js";
import { iconButton } from "./icons.js";

/**
 * @typedef {import("../types.js").App} App
 * @typedef {{text: string, kind: "info" | "error" | "success", action?: {label: string, run: () => void}}} Told
 */

const MOST = 4;
const SHOWN_MS = 5000;
const WITH_ACTION_MS = 10_000;
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 30_000;
const STEADY_MS = 60_000;

/**
 * @param {App} app
 * @returns {HTMLElement}
 */
export function createMessages(app) {
  // Two places, there from the start: screen readers read out what is put into them.
  const polite = el("div", { class: "toasts-polite", role: "status" });
  const urgent = el("div", { class: "toasts-urgent", role: "alert" });
  app.root.addEventListener(
    "gnomonic:say",
    (event) => {
      event.preventDefault();
      const told = /** @type {CustomEvent<Told>} */ (event).detail;
      show(told.kind === "error" ? urgent : polite, told);
    },
    { signal: app.signal },
  );
  app.root.dispatchEvent(new CustomEvent("gnomonic:listening"));
  return el("div", { class: "messages" }, offlineBanner(app), el("div", { class: "toasts" }, urgent, polite));
}

/**
 * @param {HTMLElement} place
 * @param {Told} told
 */
function show(place, { text, kind, action }) {
  // The same failure of many tiles is one message.
  const same = [...place.children].find((one) => one.firstElementChild?.textContent === text);
  same?.remove();
  const close = () => toast.remove();
  const run = () => {
    close();
    action?.run();
  };
  const toast = el(
    "div",
    { class: `toast ${kind}` },
    el("span", { class: "toast-text", dir: "auto" }, text),
    action && el("button", { class: "button small", type: "button", "on:click": run }, action.label),
    iconButton("close", "Close this message", close, { class: "button icon quiet small" }),
  );
  place.append(toast);
  while (place.children.length > MOST) place.firstElementChild?.remove();
  if (kind !== "error") closeLater(toast, action ? WITH_ACTION_MS : SHOWN_MS);
}

/** Close a message after a while, but not while somebody reads it. @param {HTMLElement} toast @param {number} ms */
function closeLater(toast, ms) {
  const timer = setTimeout(() => {
    if (toast.matches(":hover, :focus-within")) closeLater(toast, ms);
    else toast.remove();
  }, ms);
  toast.addEventListener("click", () => clearTimeout(timer), { once: true });
}

/**
 * Says that the server is gone, and asks for it again, less and less often.
 *
 * @param {App} app
 */
function offlineBanner(app) {
  const { store, source, actions, signal } = app;
  const host = source.kind === "static" ? "host of this map" : "server";
  const text = el("span", {});
  const again = el("button", { class: "button small", type: "button", "on:click": () => void attempt() }, "Try again");
  const banner = el("div", { class: "offline floating", role: "alert", hidden: true }, text, again);
  let wait = FIRST_WAIT_MS;
  let recovered = -Infinity;
  let trying = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const attempt = async () => {
    clearTimeout(timer);
    if (trying) return;
    trying = true;
    again.disabled = true;
    fill(again, "Trying…");
    const answered = await (source.reach ?? source.view)().then(
      () => true,
      // An answer that refuses is an answer.
      (error) => Boolean(error?.status),
    );
    trying = false;
    again.disabled = false;
    fill(again, "Try again");
    if (signal.aborted) return;
    if (answered) store.set({ offline: false });
    else if (store.state.offline) next();
  };
  const next = () => {
    timer = setTimeout(() => void attempt(), wait);
    wait = Math.min(LONGEST_WAIT_MS, wait * 1.6);
  };
  let before = false;
  store.follow(
    ["offline"],
    ({ offline }) => {
      clearTimeout(timer);
      banner.hidden = !offline;
      if (offline) {
        fill(text, `The ${host} does not answer. What is on the screen stays.`);
        // Where it comes and goes it is asked ever less often all the same.
        if (performance.now() - recovered > STEADY_MS) wait = FIRST_WAIT_MS;
        next();
      } else if (before) {
        recovered = performance.now();
        fill(text);
        actions.say(`The ${host} answers again.`, "success");
      }
      before = offline;
    },
    { now: true, signal },
  );
  signal.addEventListener("abort", () => clearTimeout(timer));
  return banner;
}
