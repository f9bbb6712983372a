import type { Dirent } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConveyorError } from '../core/errors.ts'
import { repositoryKey } from '../core/repository-key.ts'

/** The limit of BuildKit. */
const MAX_BYTES = 500 * 1024

/**
 * The secrets that a Dockerfile may mount with `RUN --mount=type=secret,id=ID`: the files `DIR/ID`, for
 * every repository, and `DIR/OWNER/NAME/ID`, which take precedence. OWNER and NAME are not case-sensitive, as on
 * GitHub. Each build reads them again.
 * @returns content by id; empty without such a directory
 * @throws ConveyorError `unavailable` when a file cannot be read or is too large, or when two directories match the
 * repository
 */
export async function readBuildSecrets(dir: string, repository: string): Promise<Record<string, Uint8Array>> {
  const secrets: Record<string, Uint8Array> = {}
  const folders = await foldersOf(dir, repository)
  for (const folder of [dir, ...folders]) {
    for (const id of await filesIn(folder)) {
      const content = await readFile(join(folder, id)).catch((error: Error) =>
        fail(folder, id, error.message),
      )
      if (content.length > MAX_BYTES) fail(folder, id, `it is larger than ${MAX_BYTES / 1024} KiB`)
      secrets[id] = content
    }
  }
  return secrets
}

/** The directory of a repository, if it exists. */
async function foldersOf(dir: string, repository: string): Promise<string[]> {
  let found = [dir]
  for (const part of repositoryKey(repository).split('/')) {
    const inside = await Promise.all(
      found.map(async (folder) => {
        // A file with the name of an owner is a secret for all repositories.
        const names = (await entriesOf(folder, folder === dir ? ['ENOENT'] : ['ENOENT', 'ENOTDIR'])).map(
          ({ name }) => name,
        )
        return names.filter((name) => name.toLowerCase() === part).map((name) => join(folder, name))
      }),
    )
    found = inside.flat()
  }
  if (found.length > 1) {
    throw new ConveyorError(
      'unavailable',
      `the build secrets of ${repository} are in ${found.join(' and ')}`,
      {
        retryable: false,
        hint: 'Move them into one directory: repository names on GitHub are not case-sensitive',
      },
    )
  }
  return found
}

async function filesIn(folder: string): Promise<string[]> {
  // Kubernetes and Docker mount secrets as symlinks, next to directories whose names start with dots.
  const entries = await entriesOf(folder, ['ENOENT', 'ENOTDIR'])
  return entries.filter((e) => !e.isDirectory() && !e.name.startsWith('.')).map((e) => e.name)
}

/** @param missing error codes that mean there is no such directory */
async function entriesOf(folder: string, missing: string[]): Promise<Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if (missing.includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw new ConveyorError('unavailable', `the build secrets in ${folder} cannot be read`, { cause: error })
  }
}

function fail(folder: string, id: string, why: string): never {
  throw new ConveyorError('unavailable', `the build secret ${join(folder, id)} cannot be used: ${why}`, {
    retryable: false,
    hint: 'Make it readable for the user that Conveyor runs as, or remove it',
  })
}
