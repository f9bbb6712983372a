import { repositoryKey } from './repository-key.ts'

/** `owner/name`, in which `*` matches any characters. */
const PATTERN = /^[\w.*-]{1,100}\/[\w.*-]{1,100}$/

export function isRepositoryPattern(text: string): boolean {
  return PATTERN.test(text)
}

/**
 * Returns whether a repository matches any of the patterns; without patterns, all do. Case-insensitive, like GitHub.
 * Lists apply it to thousands of repositories at once.
 */
export function repositoryFilter(patterns: readonly string[]): (repository: string) => boolean {
  if (patterns.length === 0) return () => true
  // Thousands of names, for somebody with access to as many repositories.
  const names = new Set(patterns.filter((one) => !one.includes('*')).map((one) => one.toLowerCase()))
  const globs = patterns.filter((one) => one.includes('*'))
  const wanted = globs.map((pattern) => {
    const [owner = '', name = ''] = pattern.toLowerCase().split('/')
    return { owner: piecesOf(owner), name: piecesOf(name) }
  })
  return (repository) => {
    if (names.has(repositoryKey(repository))) return true
    const [owner = '', name = ''] = repositoryKey(repository).split('/')
    for (const pattern of wanted) if (fits(pattern.owner, owner) && fits(pattern.name, name)) return true
    return false
  }
}

/** A glob, split at its stars. */
interface Pieces {
  first: string
  middle: readonly string[]
  /** Null without a star. */
  last: string | null
}

function piecesOf(glob: string): Pieces {
  const [first = '', ...middle] = glob.split('*')
  const last = middle.pop() ?? null
  return { first, middle, last }
}

/** Written by hand, as a regular expression with several `*` can backtrack for very long. */
function fits({ first, middle, last }: Pieces, text: string): boolean {
  if (last === null) return text === first
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  for (const piece of middle) {
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
