/** Requests and their answers, checked: what comes back is what was asked for, or an error that says what is wrong. */

import { SourceError } from "./transport.js";

/**
 * @typedef {import("./transport.js").Transport} Transport
 * @typedef {import("./transport.js").Answer} Answer
 * @typedef {{json?: unknown, signal?: AbortSignal}} Options
 * @typedef {{bytes: ArrayBuffer, header: (name: string) => string | null}} Received
 */

const TRIES = 2;
const LONGEST_MESSAGE = 600;

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
      if (method === "GET" && attempt < TRIES) continue;
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
  const { bytes } = await ask(transport, method, path, options);
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
