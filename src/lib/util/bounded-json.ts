/** More than any answer of GitHub, a registry or an LFS server has, in lists and objects together. */
const MOST_VALUES = 200_000
/** Deeper than any of them is nested. */
const DEEPEST = 100

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c]
const [LIST, LIST_END, OBJECT, OBJECT_END] = [0x5b, 0x5d, 0x7b, 0x7d]

/**
 * Counts the values of a JSON text, and how deep they are nested, while its bytes arrive. Parsing takes time by these,
 * not by bytes: five megabytes of one string are parsed in milliseconds, of nested lists in a second.
 */
export class JsonBounds {
  #values = 0
  #depth = 0
  #inString = false
  #isEscaped = false

  /** Whether the text, as far as it is known, can be parsed in little time. @param piece the next bytes, in UTF-8 */
  allow(piece: Uint8Array): boolean {
    for (let at = 0; at < piece.length; at++) {
      const byte = piece[at]
      if (this.#isEscaped) this.#isEscaped = false
      else if (byte === QUOTE) this.#inString = !this.#inString
      else if (this.#inString) this.#isEscaped = byte === BACKSLASH
      else if (byte === COMMA) this.#values++
      else if (byte === LIST || byte === OBJECT) {
        this.#values++
        if (++this.#depth > DEEPEST) return false
      } else if (byte === LIST_END || byte === OBJECT_END) this.#depth--
    }
    return this.#values <= MOST_VALUES
  }
}

/** Parses what another system sent. @throws SyntaxError if it is not JSON, or has more values than any real answer */
export function boundedJson(bytes: Uint8Array): unknown {
  if (!new JsonBounds().allow(bytes)) throw new SyntaxError('too many values, or nested too deep')
  return JSON.parse(Buffer.from(bytes).toString())
}
