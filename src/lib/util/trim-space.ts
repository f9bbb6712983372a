/** What Go's unicode.IsSpace takes for a blank; JavaScript's own trim has U+FEFF besides, and no U+0085. */
const SPACE = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/

/** A text without the blanks around it, as Go's strings.TrimSpace has it. */
export function trimSpace(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && SPACE.test(text[start] ?? '')) start++
  while (end > start && SPACE.test(text[end - 1] ?? '')) end--
  return text.slice(start, end)
}
