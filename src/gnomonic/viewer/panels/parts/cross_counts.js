/** Counts of columns among the rows that all other filters let pass. */

import { fieldFilter, withField } from "./conditions.js";
import { onlyLatest } from "./states.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").ColumnCounts} ColumnCounts */

/**
 * Returns a function that counts columns as the filters are now. Columns without a filter of their own are counted in
 * one call; one with a filter needs its own call, without that filter.
 *
 * @param {App} app
 * @returns {(columns: string[]) => Promise<Map<string, ColumnCounts | null> | null>}  Null for a column: nothing is
 *   filtered but by itself, so the counts of the whole map hold. Null for all: a newer call took over.
 */
export function createCrossCounts(app) {
  const latest = onlyLatest(app.signal);
  return (columns) => {
    const { filters } = app.store.state;
    return latest(async (signal) => {
      /** @type {Map<string, ColumnCounts | null>} */
      const found = new Map();
      const filtered = columns.filter((name) => fieldFilter(filters, name));
      const others = columns.filter((name) => !fieldFilter(filters, name));
      const calls = filtered.map((name) => ({ names: [name], conditions: withField(filters, name, null) }));
      if (others.length) calls.push({ names: others, conditions: filters });
      await Promise.all(
        calls.map(async ({ names, conditions }) => {
          const counted = Object.keys(conditions).length ? await app.source.counts(names, conditions, signal) : null;
          for (const name of names) found.set(name, counted?.counts[name] ?? null);
        }),
      );
      return found;
    });
  };
}
