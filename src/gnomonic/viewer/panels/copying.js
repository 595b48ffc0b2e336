/** Text to the clipboard. */

import { el } from "../dom.js";

/**
 * Copy a text. Browsers give pages without TLS no clipboard, so there the old way is taken.
 *
 * @param {HTMLElement} root
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function copyText(root, text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(root, text);
  }
}

/**
 * @param {HTMLElement} root
 * @param {string} text
 */
function copySelected(root, text) {
  const before = document.activeElement;
  const field = el("textarea", { class: "copy-field", "aria-hidden": "true", tabindex: "-1" });
  field.value = text;
  root.append(field);
  field.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    // Told of by the answer.
  }
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  return done;
}
