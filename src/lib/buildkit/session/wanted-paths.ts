import type { Metadata } from '@grpc/grpc-js'
import type { ContextEntry } from '../../source/source.ts'
import { compileGlob } from '../../util/glob/glob.ts'
import type { WantedPaths } from './follow-paths.ts'

/**
 * What a call of FileSync says that it wants.
 * https://github.com/moby/buildkit/blob/v0.13.2/session/filesync/filesync.go
 */
export function wantedPaths(metadata: Metadata, entries: readonly ContextEntry[]): WantedPaths {
  const list = (key: string) => {
    const values = metadata.get(key).map((value) => value.toString())
    // From v0.12 on, what is not plain ASCII is escaped. Before, grpc-js drops such a key, and all is sent.
    return metadata.get(`${key}-encoded`)[0] === '1' ? decoded(values) : separated(values, entries)
  }
  return { follow: list('followpaths'), include: list('include-patterns') }
}

/** Several values of one key arrive as one string; in an escaped one there is no comma. */
function decoded(values: string[]): string[] | null {
  try {
    return pieces(values).map((value) => decodeURIComponent(value.replaceAll('+', ' ')))
  } catch {
    return null // what is no UTF-8 has no name here
  }
}

const SEPARATOR = ', '
/** More pieces than this of one header are not put together in all ways, nor ones that come to more characters. */
const MAX_PIECES = 64
const MAX_CHARACTERS = 150_000

/**
 * Several values of one key arrive as one string, joined by `, `, which a value may have in itself. So where there
 * are such paths, every row of pieces may be one value: one too many is a little slower, one too few would be wrong.
 * The same holds where a bracket is torn apart. Null: there are too many.
 */
function separated(values: string[], entries: readonly ContextEntry[]): string[] | null {
  const all = values.flatMap((value) => value.split(SEPARATOR))
  const torn = all.length > 1 && all.some((piece) => piece.lastIndexOf('[') > piece.lastIndexOf(']'))
  if (all.length < 2 || !(torn || entries.some(({ path }) => path.includes(SEPARATOR)))) return pieces(values)
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
