import { mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { broken, type Finding, ok, warning } from './check.ts'
import { shownSize } from './size.ts'

/** Less than this is soon full. */
const LITTLE = 1e9

/**
 * Whether files can be written to a folder, and how much. One is, and is removed again; where the folder is not
 * there yet, to the one that it will be made in.
 */
export async function folder(dir: string): Promise<Finding> {
  const there = await nearest(dir)
  try {
    const probe = await mkdtemp(join(there, '.conveyor-doctor-'))
    try {
      await writeFile(join(probe, 'file'), 'written by conveyor doctor\n')
    } finally {
      await rm(probe, { recursive: true, force: true })
    }
  } catch (error) {
    return broken(
      `${dir} cannot be written to: ${(error as Error).message}`,
      `Let the user that Conveyor runs as (${process.getuid?.()}) write to ${there}, or give another folder`,
    )
  }
  const { bavail, bsize } = await statfs(there)
  const free = bavail * bsize
  const found = `${dir}${there === dir ? '' : ' (made at the start)'}, ${shownSize(free)} free`
  return free < LITTLE ? warning(found, 'Make room on its disk') : ok(found)
}

/** The folder itself, or the nearest one above it that is there. */
async function nearest(dir: string): Promise<string> {
  const isThere = await stat(dir).then(
    () => true,
    () => false,
  )
  return isThere || dir === dirname(dir) ? dir : nearest(dirname(dir))
}
