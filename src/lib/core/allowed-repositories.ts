/** `owner/name`, in which `*` matches any characters. */
const PATTERN = /^[\w.*-]{1,100}\/[\w.*-]{1,100}$/

export function isRepositoryPattern(text: string): boolean {
  return PATTERN.test(text)
}

/**
 * Returns whether a repository matches any of the patterns; without patterns, all do. Case-insensitive, like GitHub.
 */
export function repositoryFilter(patterns: readonly string[]): (repository: string) => boolean {
  if (patterns.length === 0) return () => true
  const wanted = patterns.map((pattern) => pattern.toLowerCase().split('/'))
  return (repository) => {
    const parts = repository.toLowerCase().split('/')
    return wanted.some((pattern) => pattern.every((part, index) => fits(part, parts[index] ?? '')))
  }
}

/** Written by hand, as a regular expression with several `*` can backtrack for very long. */
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

/** The answer to a request for a repository that is not allowed. */
export function notAllowed(repository: string): string {
  return `${repository} is not allowed on this server; --allow (ALLOW) lists the repositories that are`
}
