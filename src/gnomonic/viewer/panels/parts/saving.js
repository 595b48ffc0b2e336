/** Files for the person who looks: made here, saved by the browser. */

import { el } from "../../dom.js";

/** Long enough for the browser to have begun. */
const KEPT_MS = 60_000;

/**
 * A name that every file system takes.
 *
 * @param {string[]} parts  Joined by hyphens; letters of all scripts are kept.
 * @param {string} ending
 */
export function fileName(parts, ending) {
  const joined = parts
    .map((part) =>
      part
        .normalize("NFC")
        .replace(/[^\p{L}\p{M}\p{N}._]+/gu, "-")
        .replace(/^[-.]+|[-.]+$/g, ""),
    )
    .filter(Boolean)
    .join("-");
  return `${[...joined].slice(0, 80).join("") || "map"}.${ending}`;
}

/**
 * @param {HTMLElement} root
 * @param {Blob} blob
 * @param {string} name
 */
export function save(root, blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name, hidden: true });
  root.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/** A number of bytes, in words. @param {number} bytes */
export function bytesText(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const [size, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}
