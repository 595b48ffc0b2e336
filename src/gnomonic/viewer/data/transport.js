/** How requests reach the server: over HTTP, with a key where it asks for one. */

/**
 * @typedef {{status: number, headers: {get(name: string): string | null}, bytes: () => Promise<ArrayBuffer>}} Answer
 * @typedef {{request: (method: string, path: string, options?: {json?: unknown, signal?: AbortSignal})
 *   => Promise<Answer>}} Transport  Paths are relative to the map.
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
    const why = refused ? "The server refused this key." : "This server asks for an API key.";
    asking ??= askKey ? askKey(why).finally(() => (asking = null)) : Promise.resolve(null);
    const given = await asking;
    if (given) keepKey(given);
    return given !== null;
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
        if (answer.status === 401 && (await newKey(key))) continue;
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
