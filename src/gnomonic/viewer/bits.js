/** A set of rows: one bit for each position of the map order, lowest bit first, as the server writes it. */

const ONES = new Uint8Array(256);
for (let byte = 1; byte < 256; byte++) ONES[byte] = ONES[byte >> 1] + (byte & 1);

export class Bits {
  /**
   * @param {number} length  How many positions there are.
   * @param {Uint8Array} [bytes]  Taken over, not copied; all zero without it.
   */
  constructor(length, bytes) {
    const size = (length + 7) >> 3;
    if (bytes && bytes.length !== size) throw new RangeError(`${length} bits take ${size} bytes, not ${bytes.length}`);
    this.length = length;
    this.bytes = bytes ?? new Uint8Array(size);
    this.#clearTail();
  }

  /** @param {number} length */
  static full(length) {
    return new Bits(length, new Uint8Array((length + 7) >> 3).fill(255));
  }

  /**
   * @param {number} length
   * @param {Iterable<number>} positions
   */
  static of(length, positions) {
    const made = new Bits(length);
    for (const position of positions) made.add(position);
    return made;
  }

  /**
   * @param {number} length
   * @param {string} text
   */
  static fromBase64(length, text) {
    return new Bits(length, Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  }

  toBase64() {
    const parts = [];
    for (let begin = 0; begin < this.bytes.length; begin += 8192) {
      parts.push(String.fromCharCode(...this.bytes.subarray(begin, begin + 8192)));
    }
    return btoa(parts.join(""));
  }

  /** @param {number} position */
  has(position) {
    return ((this.bytes[position >> 3] >> (position & 7)) & 1) === 1;
  }

  /** @param {number} position */
  add(position) {
    if (position >= 0 && position < this.length) this.bytes[position >> 3] |= 1 << (position & 7);
  }

  /** @param {number} position */
  remove(position) {
    this.bytes[position >> 3] &= ~(1 << (position & 7));
  }

  count() {
    let found = 0;
    for (let i = 0; i < this.bytes.length; i++) found += ONES[this.bytes[i]];
    return found;
  }

  copy() {
    return new Bits(this.length, this.bytes.slice());
  }

  /** @param {Bits} other */
  and(other) {
    return this.#joined(other, (a, b) => a & b);
  }

  /** @param {Bits} other */
  or(other) {
    return this.#joined(other, (a, b) => a | b);
  }

  /** @param {Bits} other */
  without(other) {
    return this.#joined(other, (a, b) => a & ~b);
  }

  inverted() {
    return new Bits(this.length, this.bytes.map((byte) => ~byte));
  }

  /** The first positions in the set. @param {number} [most] */
  positions(most = this.length) {
    /** @type {number[]} */
    const found = [];
    for (let i = 0; i < this.bytes.length && found.length < most; i++) {
      const byte = this.bytes[i];
      for (let bit = 0; byte >> bit && found.length < most; bit++) {
        if ((byte >> bit) & 1) found.push(8 * i + bit);
      }
    }
    return found;
  }

  /**
   * @param {Bits} other
   * @param {(a: number, b: number) => number} join
   */
  #joined(other, join) {
    if (other.length !== this.length) throw new RangeError(`sets of ${this.length} and ${other.length} rows`);
    const made = new Uint8Array(this.bytes.length);
    for (let i = 0; i < made.length; i++) made[i] = join(this.bytes[i], other.bytes[i]);
    return new Bits(this.length, made);
  }

  /** Bits beyond the last position never count. */
  #clearTail() {
    if (this.length & 7) this.bytes[this.bytes.length - 1] &= (1 << (this.length & 7)) - 1;
  }
}
