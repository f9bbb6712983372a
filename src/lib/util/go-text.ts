/** Go's unicode.IsSpace, which differs from JavaScript's `\s`. */
const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/

export function isSpace(char: string): boolean {
  return SPACE.test(char)
}

/** strings.TrimLeftFunc(text, unicode.IsSpace) */
export function trimLeft(text: string): string {
  let from = 0
  while (from < text.length && isSpace(text.charAt(from))) from += 1
  return text.slice(from)
}

/** strings.TrimSpace */
export function trimSpace(text: string): string {
  let to = text.length
  while (to > 0 && isSpace(text.charAt(to - 1))) to -= 1
  return trimLeft(text.slice(0, to))
}

/** bytes.TrimRight(text, chars) */
export function trimRight(text: string, chars: string): string {
  let to = text.length
  while (to > 0 && chars.includes(text.charAt(to - 1))) to -= 1
  return text.slice(0, to)
}

/** bytes.TrimLeft(text, "\t") */
export function trimTabs(text: string): string {
  let from = 0
  while (text.charAt(from) === '\t') from += 1
  return text.slice(from)
}
