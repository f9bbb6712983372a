import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TempDir extends AsyncDisposable {
  /** Absolute, without symlinks. */
  path: string
}

/** A new empty folder, under the system's temporary one by default; removed with everything in it when disposed. */
export async function tempDir(prefix = 'conveyor-test-', parent = tmpdir()): Promise<TempDir> {
  const path = await realpath(await mkdtemp(join(parent, prefix)))
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }),
  }
}
