import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConveyorError } from './errors.ts'

/** BuildKit takes no larger secret. */
const LARGEST = 500 * 1024

/**
 * The secrets that a Dockerfile may mount with `RUN --mount=type=secret,id=ID`: the files `DIR/ID`, for
 * every repository, and `DIR/OWNER/NAME/ID`, which win. They are read anew for each build.
 * @returns content by id; empty where there is no such folder
 * @throws ConveyorError `unavailable` when a file can not be read or is too large
 */
export async function readBuildSecrets(dir: string, repository: string): Promise<Record<string, Uint8Array>> {
  const secrets: Record<string, Uint8Array> = {}
  for (const folder of [dir, join(dir, ...repository.split('/'))]) {
    for (const id of await filesIn(folder)) {
      const content = await readFile(join(folder, id)).catch((error: Error) =>
        fail(folder, id, error.message),
      )
      if (content.length > LARGEST) fail(folder, id, `it is larger than ${LARGEST / 1024} KiB`)
      secrets[id] = content
    }
  }
  return secrets
}

async function filesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    // Kubernetes and docker mount secrets as symlinks, next to folders whose names start with dots.
    return entries.filter((e) => !e.isDirectory() && !e.name.startsWith('.')).map((e) => e.name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new ConveyorError('unavailable', `the build secrets in ${folder} can not be read`, { cause: error })
  }
}

function fail(folder: string, id: string, why: string): never {
  throw new ConveyorError('unavailable', `the build secret ${join(folder, id)} can not be used: ${why}`, {
    retryable: false,
    hint: 'Make it readable for the user that conveyor runs as, or remove it',
  })
}
