import { readdirSync } from 'node:fs'
import { join } from 'node:path'

export interface Folder {
  /** Relative to the root: `src/lib/core`. */
  path: string
  /** The number of files directly in it. */
  files: number
}

/** Every folder below `tops`, and these themselves, except those left out and everything in them. */
export function listFolders(root: string, tops: string[], leftOut: string[]): Folder[] {
  return tops.flatMap((top) => {
    if (leftOut.includes(top)) return []
    const entries = readdirSync(join(root, top), { withFileTypes: true })
    const below = entries.filter((entry) => entry.isDirectory()).map(({ name }) => `${top}/${name}`)
    const files = entries.filter((entry) => entry.isFile()).length
    return [{ path: top, files }, ...listFolders(root, below, leftOut)]
  })
}
