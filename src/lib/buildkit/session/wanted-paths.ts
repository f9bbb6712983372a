import type { Metadata } from '@grpc/grpc-js'
import type { ContextEntry } from '../../source/source.ts'
import { compileGlob } from '../../util/glob/glob.ts'
import type { WantedPaths } from './follow-paths.ts'

/**
 * The paths that a call of FileSync requests.
 * https://github.com/moby/buildkit/blob/v0.13.2/session/filesync/filesync.go
 */
export function wantedPaths(metadata: Metadata, entries: readonly ContextEntry[]): WantedPaths {
  const all = (values: string[]) => separated(values, entries)
  return { follow: listOf(metadata, 'followpaths', all), include: listOf(metadata, 'include-patterns', all) }
}

/**
 * The patterns of what a call does not request, as in .dockerignore. BuildKit leaves that to its client, too. One with a
 * comma and a space is not told from two, unless it is escaped.
 */
export function excludedPatterns(metadata: Metadata): string[] {
  return listOf(metadata, 'exclude-patterns', pieces) ?? []
}

/** @param plain reads values that are not escaped */
function listOf<T>(
  metadata: Metadata,
  key: string,
  plain: (values: string[]) => T,
): T | ReturnType<typeof decoded> {
  const values = metadata.get(key).map((value) => value.toString())
  // Since v0.12, anything but plain ASCII is escaped. Before, grpc-js drops the key, and everything is sent.
  return metadata.get(`${key}-encoded`)[0] === '1' ? decoded(values) : plain(values)
}

/** Values of one key arrive joined into one string; escaped ones contain no comma. */
function decoded(values: string[]): string[] | null {
  try {
    return pieces(values).map((value) => decodeURIComponent(value.replaceAll('+', ' ')))
  } catch {
    return null // invalid UTF-8
  }
}

const SEPARATOR = ', '
/** Limits for trying all combinations of a header's pieces. */
const MAX_PIECES = 64
const MAX_CHARACTERS = 150_000

/**
 * Values of one key arrive joined by `, `, which a value may contain itself. If there are such paths, every sequence of
 * pieces may be one value, so all of them are returned: one too many is a little slower, one too few would be wrong. The
 * same applies if a bracket expression was split. Null if there are too many.
 */
function separated(values: string[], entries: readonly ContextEntry[]): string[] | null {
  const all = values.flatMap((value) => value.split(SEPARATOR))
  const isSplit = all.length > 1 && all.some((piece) => piece.lastIndexOf('[') > piece.lastIndexOf(']'))
  if (all.length < 2 || !(isSplit || entries.some(({ path }) => path.includes(SEPARATOR))))
    return pieces(values)
  if (all.length > MAX_PIECES || all.join(SEPARATOR).length * all.length ** 2 > 6 * MAX_CHARACTERS)
    return null
  const rows = all.flatMap((_, from) =>
    all.slice(from).map((_, more) => all.slice(from, from + more + 1).join(SEPARATOR)),
  )
  return rows.filter((row) => row !== '' && compileGlob(row) !== null)
}

function pieces(values: string[]): string[] {
  return values.flatMap((value) => value.split(SEPARATOR)).filter((value) => value !== '')
}
