/** The question for an API key. */

import { el } from "../dom.js";

/**
 * Ask for an API key.
 *
 * @param {HTMLElement} root
 * @param {string} why
 * @returns {Promise<string | null>} Null where the reader has none.
 */
export function askKey(root, why) {
  const input = el("input", {
    type: "password",
    id: "gnomonic-key",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "gnomonic-key-note",
  });
  const cancel = el("button", { class: "button", type: "button" }, "Cancel");
  const go = el("button", { class: "button primary", type: "submit" }, "Continue");
  const form = el(
    "form",
    { class: "key-form" },
    el("h1", { id: "gnomonic-key-title" }, "API key"),
    el("p", {}, why),
    el("label", { for: "gnomonic-key" }, "Key"),
    input,
    el("p", { class: "muted", id: "gnomonic-key-note" }, "It is kept until this browser tab is closed."),
    el("div", { class: "row key-buttons" }, cancel, go),
  );
  const dialog = el("dialog", { class: "key-dialog", "aria-labelledby": "gnomonic-key-title" }, form);
  root.append(dialog);
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    const end = (/** @type {string | null} */ key) => {
      dialog.remove();
      resolve(key);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = input.value.trim();
      // Others cannot be sent in a header.
      if (/^[\x21-\x7e]+$/.test(key)) return end(key);
      input.setCustomValidity("A key has only letters, digits and signs, without spaces.");
      input.reportValidity();
    });
    input.addEventListener("input", () => input.setCustomValidity(""));
    cancel.addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(null);
    });
  });
}
