/** Markup that is safe to send: what `html` and `raw` make. */
export class Html {
  readonly #markup: string

  constructor(markup: string) {
    this.#markup = markup
  }

  toString(): string {
    return this.#markup
  }
}

/** What a template may contain. Strings are escaped; null, undefined and booleans render nothing. */
export type Renderable = Html | string | number | null | undefined | boolean | readonly Renderable[]

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  // Parsers turn CR into LF, and drop or replace NUL.
  '\r': '&#13;',
  '\0': '\ufffd',
}

/** Whether each literal part of a template may be followed by a value. Templates are checked on their first use. */
const checked = new WeakSet<TemplateStringsArray>()

/**
 * Markup from a template. Values are text, or the contents of a quoted attribute; both are escaped.
 * @throws Error if a value stands where escaping does not help: an unquoted attribute
 */
export function html(parts: TemplateStringsArray, ...values: Renderable[]): Html {
  if (!checked.has(parts)) {
    for (const part of parts.slice(0, -1)) {
      if (/=\s*$/.test(part)) throw new Error(`quote the attribute: ${part.slice(-40)}`)
    }
    checked.add(parts)
  }
  let markup = parts[0] as string
  for (let i = 0; i < values.length; i++) markup += render(values[i]) + parts[i + 1]
  return new Html(markup)
}

/** Trusts a text to be markup. Never for anything that came from outside. */
export function raw(markup: string): Html {
  return new Html(markup)
}

function render(value: Renderable): string {
  if (typeof value === 'string') return escapeHtml(value)
  if (value === null || value === undefined || typeof value === 'boolean') return ''
  if (value instanceof Html) return value.toString()
  if (typeof value === 'number') return String(value)
  let markup = ''
  for (const item of value) markup += render(item)
  return markup
}

/** Directional marks would reorder what is around the text, also outside of its element. */
const SPECIAL = /[&<>"'\r\0\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/
const ALL_SPECIAL = new RegExp(SPECIAL, 'g')

/**
 * Text as the contents of an element or a quoted attribute, in HTML and in SVG. Directional marks are shown as
 * `<U+202E>`.
 */
export function escapeHtml(text: string): string {
  // Most texts need nothing.
  return SPECIAL.test(text) ? text.replace(ALL_SPECIAL, escaped) : text
}

function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')
  return ENTITIES[character] ?? `&lt;U+${code}&gt;`
}
