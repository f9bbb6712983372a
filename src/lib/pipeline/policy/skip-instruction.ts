const MARKS = ['[skip ci]', '[ci skip]', '[no ci]', '[skip actions]', '[actions skip]']

/** A line that begins like `Signed-off-by: `, or goes on with the value of the one before. */
const TRAILER = /^(?:[A-Za-z0-9-]+[ \t]*:|[ \t]+\S)/

/**
 * What in a commit's whole message asks for no build, as GitHub defines it for its own Actions: one of five marks
 * anywhere, or a last trailer `skip-checks: true`. Null if nothing does. In any case; Git removes one of the two empty
 * lines that GitHub wants in front of trailers, so one is enough.
 */
export function skipInstruction(message: string): string | null {
  const text = message.toLowerCase()
  const mark = MARKS.find((one) => text.includes(one))
  if (mark !== undefined) return mark
  const lines = text.trimEnd().split(/\r?\n/)
  const last = lines.at(-1) ?? ''
  if (!/^skip-checks:[ \t]*true$/.test(last)) return null
  const start = lines.findLastIndex((line) => line.trim() === '')
  const isTrailers = start > 0 && lines.slice(start + 1).every((line) => TRAILER.test(line))
  return isTrailers ? 'skip-checks: true' : null
}
