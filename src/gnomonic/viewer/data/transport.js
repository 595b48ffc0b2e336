/**
 * How requests reach the server: over HTTP, with a key where it asks for one; and how their answers are checked: what
 * comes back is what was asked for, or an error that says what is wrong.
 */

/**
 * @typedef {{status: number, headers: {get(name: string): string | null}, bytes: () => Promise<ArrayBuffer>}} Answer
 * @typedef {{request: (method: string, path: string, options?: {json?: unknown, signal?: AbortSignal})
 *   => Promise<Answer>}} Transport  Paths are relative to the map.
 * @typedef {{json?: unknown, signal?: AbortSignal}} Options
 * @typedef {{bytes: ArrayBuffer, header: (name: string) => string | null}} Received
 */

/** The server said no, or did not answer. */
export class SourceError extends Error {
  /**
   * @param {string} message
   * @param {number} status  0 where no answer came.
   */
  constructor(message, status) {
    super(message);
    this.name = "SourceError";
    this.status = status;
  }
}

const KEY = "gnomonic-api-key";
const TRIES = 3;
const FIRST_WAIT_MS = 250;
/** Of an answer that broke off. */
const WHOLE_TRIES = 2;
const LONGEST_MESSAGE = 600;

/** @type {string | null} Where the browser keeps nothing, it is kept until the page is left. */
let lastKey = null;

function keptKey() {
  try {
    return sessionStorage.getItem(KEY) ?? lastKey;
  } catch {
    return lastKey;
  }
}

/** @param {string} key */
function keepKey(key) {
  lastKey = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // A browser may forbid it.
  }
}

/**
 * @param {string} base  Address of the map, such as /v1/datasets/local/docs/maps/current.
 * @param {{askKey?: (why: string) => Promise<string | null>, onReach?: (reached: boolean) => void}} [options]
 * @returns {Transport}
 */
export function httpTransport(base, { askKey, onReach } = {}) {
  /** @type {Promise<string | null> | null} */
  let asking = null;
  /** Somebody was asked for a key and gave none; they are not asked by every request. */
  let declined = false;

  /**
   * @param {string} method
   * @param {string} path
   * @param {{json?: unknown, signal?: AbortSignal}} options
   */
  async function once(method, path, { json, signal }) {
    /** @type {Record<string, string>} */
    const headers = { accept: "application/json, */*" };
    const key = keptKey();
    if (key) headers.authorization = `Bearer ${key}`;
    if (json !== undefined) headers["content-type"] = "application/json";
    const body = json === undefined ? null : JSON.stringify(json);
    const answer = await fetch(`${base}${path}`, { method, headers, body, signal: signal ?? null });
    return { key, answer };
  }

  /** @param {string | null} refused  The key that was sent. */
  async function newKey(refused) {
    if (keptKey() !== refused) return true;
    if (declined) return false;
    const why = refused ? "The server refused this key." : "This server asks for an API key.";
    asking ??= askKey ? askKey(why).finally(() => (asking = null)) : Promise.resolve(null);
    const given = await asking;
    if (given) keepKey(given);
    declined = given === null;
    return !declined;
  }

  return {
    async request(method, path, options = {}) {
      for (let attempt = 1; ; attempt++) {
        let reached;
        try {
          reached = await once(method, path, options);
        } catch (error) {
          if (options.signal?.aborted) throw error;
          if (attempt < TRIES && method === "GET") {
            await waiting(FIRST_WAIT_MS * 2 ** attempt, options.signal);
            continue;
          }
          onReach?.(false);
          throw new SourceError("The server does not answer.", 0);
        }
        onReach?.(true);
        const { key, answer } = reached;
        if (answer.status === 401) {
          if (await newKey(key)) continue;
          if (askKey) throw new SourceError("The server asks for an API key. Reload the page to give one.", 401);
        }
        const busy = answer.status === 429 || answer.status === 503;
        if (busy && attempt < TRIES) {
          await waiting(1000 * Math.min(Number(answer.headers.get("retry-after")) || 1, 10), options.signal);
          continue;
        }
        return { status: answer.status, headers: answer.headers, bytes: () => answer.arrayBuffer() };
      }
    },
  };
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function waiting(ms, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, ms);
    signal?.addEventListener("abort", end);
  });
}

/**
 * Ask for something.
 *
 * @param {Transport} transport
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<Received>}
 * @throws {SourceError} The server said no, in its words, or the answer did not come whole.
 */
export async function ask(transport, method, path, options = {}) {
  for (let attempt = 1; ; attempt++) {
    const answer = await transport.request(method, path, options);
    let bytes;
    try {
      bytes = await answer.bytes();
    } catch (error) {
      if (options.signal?.aborted) throw error;
      // Asking twice is only safe for what changes nothing.
      if (method === "GET" && attempt < WHOLE_TRIES) continue;
      throw new SourceError("The connection broke while the answer was coming.", 0);
    }
    if (answer.status < 200 || answer.status > 299) throw refusal(answer.status, bytes);
    return { bytes, header: (name) => answer.headers.get(name) };
  }
}

/**
 * Ask for JSON.
 *
 * @param {Transport} transport
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function askJson(transport, method, path, options = {}) {
  return parsed((await ask(transport, method, path, options)).bytes, path);
}

/**
 * An answer's JSON.
 *
 * @param {ArrayBuffer} bytes
 * @param {string} path
 * @returns {any}
 */
export function parsed(bytes, path) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new SourceError(`The answer to ${told(path)} is not JSON.`, 200);
  }
}

/**
 * Refuse bytes of a wrong length: drawn all the same, they would put values on the wrong rows.
 *
 * @param {ArrayBuffer} bytes
 * @param {number} expected
 * @param {string} what
 */
export function checkLength(bytes, expected, what) {
  if (bytes.byteLength !== expected) {
    throw new SourceError(`${what} has ${bytes.byteLength} bytes where ${expected} belong; it is damaged.`, 200);
  }
}

/**
 * Keep what a function promised for as long as it did not fail.
 *
 * @template T
 * @param {() => Promise<T>} make
 * @returns {() => Promise<T>}
 */
export function once(make) {
  /** @type {Promise<T> | null} */
  let kept = null;
  return () => {
    if (!kept) {
      const mine = make();
      kept = mine;
      mine.catch(() => {
        if (kept === mine) kept = null;
      });
    }
    return kept;
  };
}

/**
 * What a server's refusal says, whichever of the common shapes it has.
 *
 * @param {number} status
 * @param {ArrayBuffer} bytes
 */
function refusal(status, bytes) {
  const text = new TextDecoder().decode(bytes.slice(0, 20_000));
  let told = null;
  try {
    told = JSON.parse(text);
  } catch {
    // A proxy's error page, of which nothing is shown.
  }
  const hint = typeof told?.hint === "string" && told.hint ? ` ${told.hint}` : "";
  const message = messageOf(told) ?? `The server answered with status ${status}.`;
  return new SourceError(sentence(message.slice(0, LONGEST_MESSAGE)) + hint, status);
}

/** @param {any} told @returns {string | null} */
function messageOf(told) {
  for (const value of [told?.detail, told?.message, told?.error, told?.error?.message]) {
    if (typeof value === "string" && value) return value;
    // A list of what is wrong with each field.
    if (Array.isArray(value) && typeof value[0]?.msg === "string") return value[0].msg;
  }
  return null;
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {string} path */
function told(path) {
  return path.split("?")[0].slice(0, 80);
}
