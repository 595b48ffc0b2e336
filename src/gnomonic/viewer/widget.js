/**
 * The map in a notebook: gets the viewer's files and the map from Python, over the notebook's own connection.
 *
 * anywidget loads this file alone, so it imports nothing; what it needs of the others comes in the same way.
 */

/**
 * @typedef {import("./data/transport.js").Transport} Transport
 * @typedef {import("./data/transport.js").Answer} Answer
 * @typedef {import("./types.js").App} App
 * @typedef {import("./bits.js").Bits} Bits
 *
 * @typedef {object} Model  What anywidget hands over, as far as it is used here.
 * @property {(name: string) => any} get
 * @property {(name: string, value: unknown) => void} set
 * @property {() => void} save_changes
 * @property {(event: string, listener: (...given: any[]) => void) => void} on
 * @property {(event: string, listener: (...given: any[]) => void) => void} off
 * @property {(content: unknown) => void} send
 *
 * @typedef {{id: number, status: number, headers: Record<string, string>}} Told
 * @typedef {{path: string, text: string, imports: Record<string, string>}} Module
 * @typedef {{modules: Module[], styles: string[]}} Files
 * @typedef {{send: (content: object, signal?: AbortSignal | null) => Promise<Answer>}} Messages
 */

const SILENT_MS = 8000;
const ENTRIES = ["app.js", "data/server_source.js", "data/open_map.js", "bits.js"];

/**
 * Show the map in a cell; anywidget calls it.
 *
 * @param {{model: Model, el: HTMLElement}} given
 * @returns {() => void}  Takes it down.
 */
function render({ model, el }) {
  const ending = new AbortController();
  const root = document.createElement("div");
  const frame = document.createElement("div");
  frame.append(root);
  frame.style.height = `${model.get("height")}px`;
  frame.style.position = "relative";
  // The notebook's own one-letter commands would be run while somebody types on the map.
  frame.dataset.lmSuppressShortcuts = "true";
  root.textContent = "Opening the map…";
  el.append(frame);
  open(model, frame, root, ending.signal).catch((error) => {
    if (ending.signal.aborted) return;
    root.textContent = `The map cannot be shown: ${error instanceof Error ? error.message : error}`;
  });
  return () => ending.abort();
}

/**
 * @param {Model} model
 * @param {HTMLElement} frame
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 */
async function open(model, frame, root, signal) {
  const reach = { told: (/** @type {boolean} */ _) => {} };
  const messages = messagesOf(model, signal, (reached) => reach.told(reached));
  const answer = await messages.send({ kind: "files", entries: ENTRIES });
  const files = /** @type {Files} */ (JSON.parse(new TextDecoder().decode(await answer.bytes())));
  const style = document.createElement("style");
  style.textContent = files.styles.join("\n");
  frame.prepend(style);
  const [{ mount }, { createServerSource }, { openMap }, { Bits }] = await Promise.all(link(files.modules, signal));
  if (signal.aborted) return;
  root.textContent = "";
  const told = (/** @type {(reached: boolean) => void} */ onReach, /** @type {AbortSignal} */ ended) => {
    reach.told = onReach;
    return openMap(createServerSource(messageTransport(messages)), ended);
  };
  const app = await mount(root, told, { signal });
  const light = document.body.dataset.jpThemeLight;
  if (light !== undefined) app.store.set({ theme: light === "true" ? "light" : "dark" });
  shareSelection(model, app, Bits, signal);
}

/**
 * Ask Python things, several at once; an answer names its question by a number.
 *
 * @param {Model} model
 * @param {AbortSignal} signal
 * @param {(reached: boolean) => void} onReach  Told when Python is silent for long, and when it speaks again.
 * @returns {Messages}
 */
function messagesOf(model, signal, onReach) {
  /** @type {Map<number, (told: Told, buffers: DataView[]) => void>} */
  const waiting = new Map();
  // Several views of one widget hear each other's answers, so their numbers must differ.
  let last = Math.floor(Math.random() * 2 ** 40);
  /** @type {(told: Told, buffers: DataView[]) => void} */
  const receive = (told, buffers) => {
    const settle = waiting.get(told.id);
    if (!settle) return;
    waiting.delete(told.id);
    onReach(true);
    settle(told, buffers);
  };
  model.on("msg:custom", receive);
  signal.addEventListener("abort", () => model.off("msg:custom", receive));
  return {
    send(content, aborted) {
      const id = ++last;
      return new Promise((resolve, reject) => {
        const silent = setTimeout(() => onReach(false), SILENT_MS);
        const signals = [aborted, signal];
        const quiet = () => {
          clearTimeout(silent);
          for (const one of signals) one?.removeEventListener("abort", forget);
        };
        const forget = () => {
          quiet();
          waiting.delete(id);
          reject(new DOMException("No longer wanted", "AbortError"));
        };
        if (aborted?.aborted || signal.aborted) return forget();
        for (const one of signals) one?.addEventListener("abort", forget);
        waiting.set(id, (told, [body]) => {
          quiet();
          resolve(answerOf(told, body));
        });
        model.send({ ...content, id });
      });
    },
  };
}

/**
 * @param {Told} told
 * @param {DataView} body
 * @returns {Answer}
 */
function answerOf({ status, headers }, body) {
  // A copy, since arrays of numbers begin at an address that they divide.
  const bytes = async () => body.buffer.slice(body.byteOffset, body.byteOffset + body.byteLength);
  return {
    status,
    headers: { get: (name) => headers[name.toLowerCase()] ?? null },
    bytes: /** @type {() => Promise<ArrayBuffer>} */ (bytes),
  };
}

/**
 * @param {Messages} messages
 * @returns {Transport}
 */
function messageTransport(messages) {
  return {
    request: (method, path, { json, signal } = {}) =>
      messages.send({ kind: "request", method, path, json: json ?? null }, signal),
  };
}

/**
 * Load modules that have no address, from blobs that name each other; some are imported only when they are needed.
 *
 * @param {Module[]} modules  Each after those it imports.
 * @param {AbortSignal} signal  When the blobs' addresses are given back.
 * @returns {Promise<any>[]}  Those of ENTRIES.
 */
function link(modules, signal) {
  /** @type {Map<string, string>} */
  const addresses = new Map();
  for (const { path, text, imports } of modules) {
    let linked = text;
    for (const [name, target] of Object.entries(imports)) {
      linked = linked.replaceAll(`"${name}"`, `"${addresses.get(target)}"`);
    }
    const blob = new Blob([linked, `\n//# sourceURL=gnomonic/${path}\n`], { type: "text/javascript" });
    addresses.set(path, URL.createObjectURL(blob));
  }
  signal.addEventListener("abort", () => addresses.forEach((address) => URL.revokeObjectURL(address)));
  return ENTRIES.map((path) => import(/** @type {string} */ (addresses.get(path))));
}

/**
 * Keep the selection on the map and the one in Python the same.
 *
 * @param {Model} model
 * @param {App} app
 * @param {typeof import("./bits.js").Bits} BitsOf
 * @param {AbortSignal} signal
 */
function shareSelection(model, app, BitsOf, signal) {
  const { store, manifest } = app;
  const written = (/** @type {Bits | null} */ bits) => (bits && bits.count() ? bits.toBase64() : "");
  const take = () => {
    const told = model.get("_selected");
    if (told === written(store.state.selection)) return;
    const selection = told ? BitsOf.fromBase64(manifest.count, told) : null;
    app.actions.select(selection, "set in Python");
  };
  const give = () => {
    const told = written(store.state.selection);
    if (told === model.get("_selected")) return;
    model.set("_selected", told);
    model.save_changes();
  };
  model.on("change:_selected", take);
  signal.addEventListener("abort", () => model.off("change:_selected", take));
  take();
  store.follow(["selection"], give, { signal });
}

export default { render };
