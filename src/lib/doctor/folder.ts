import { mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { broken, type Finding, ok, warning } from './check.ts'
import { formatSize } from './size.ts'

/** Less free space than this is a warning. */
const LOW_SPACE_BYTES = 1e9

/**
 * Whether a folder is writable, and its free space. Writes a file and removes it again; if the folder does not exist
 * yet, in the folder that it will be created in.
 */
export async function folder(dir: string): Promise<Finding> {
  const there = await nearestExisting(dir)
  try {
    const probe = await mkdtemp(join(there, '.conveyor-doctor-'))
    try {
      await writeFile(join(probe, 'file'), 'written by conveyor doctor\n')
    } finally {
      await rm(probe, { recursive: true, force: true })
    }
  } catch (error) {
    return broken(
      `${dir} is not writable: ${(error as Error).message}`,
      `Make ${there} writable for the user that Conveyor runs as (${process.getuid?.()}), or use another directory`,
    )
  }
  const { bavail, bsize } = await statfs(there)
  const free = bavail * bsize
  const found = `${dir}${there === dir ? '' : ' (will be created)'}, ${formatSize(free)} free`
  return free < LOW_SPACE_BYTES ? warning(found, 'Free up space on its disk') : ok(found)
}

/** The folder itself, or its nearest ancestor that exists. */
async function nearestExisting(dir: string): Promise<string> {
  const exists = await stat(dir).then(
    () => true,
    () => false,
  )
  return exists || dir === dirname(dir) ? dir : nearestExisting(dirname(dir))
}
