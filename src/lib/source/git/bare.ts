import { randomUUID } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Git } from './git.ts'
import { statOrNull } from './mirror.ts'

/** Creates a bare repository, unless it is there, under a temporary name in `dir`, so that it is never incomplete. */
export async function ensureBare(git: Git, gitDir: string, sha: string, dir: string): Promise<void> {
  if (await statOrNull(gitDir)) return
  const temporary = join(dir, '.tmp', randomUUID())
  await mkdir(dirname(temporary), { recursive: true, mode: 0o700 })
  await git.initBare(temporary, sha)
  await rename(temporary, gitDir)
}
