/** `owner/name`, with `*` for any characters of either. */
const PATTERN = /^[\w.*-]{1,100}\/[\w.*-]{1,100}$/

export function isRepositoryPattern(text: string): boolean {
  return PATTERN.test(text)
}

/**
 * Whether a repository may be built: what one of the patterns names, or any if there are none. The case of
 * letters does not matter, as at GitHub.
 */
export function repositoryFilter(patterns: readonly string[]): (repository: string) => boolean {
  if (patterns.length === 0) return () => true
  const wanted = patterns.map((pattern) => pattern.toLowerCase().split('/'))
  return (repository) => {
    const parts = repository.toLowerCase().split('/')
    return wanted.some((pattern) => pattern.every((part, index) => fits(part, parts[index] ?? '')))
  }
}

/** By hand, as a regular expression of several `*` would take long for some names. */
function fits(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  if (rest.length === 0) return text === pattern
  const last = rest.pop() ?? ''
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  for (const piece of rest) {
    const found = text.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  return at <= text.length - last.length
}

/** Why a repository is not built, for whoever asked for it. */
export function notAllowed(repository: string): string {
  return `${repository} is not among the repositories that are built here: --allow (ALLOW) says which`
}
