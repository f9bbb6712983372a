import { once } from 'node:events'
import { open } from 'node:fs/promises'
import type { Git } from './git.ts'

/** A lock that is held; `fd` must be passed to every process that writes to the mirror. */
export interface MirrorLock extends AsyncDisposable {
  fd: number
  /** False if the system has no flock(1): then other processes may hold the lock, too. */
  exclusive: boolean
}

/**
 * Locks a file against other Conveyor processes on this machine; waits for as long as needed.
 *
 * The lock belongs to the open file (flock(2)), which git inherits. So if Conveyor is killed while git runs, the
 * lock is held exactly until that git exits, and never becomes stale: its holder may remove every `*.lock` file
 * that git left in the mirror.
 */
export async function lockMirror(git: Git, path: string, signal?: AbortSignal): Promise<MirrorLock> {
  const file = await open(path, 'a')
  try {
    const exclusive = await flock(git, file.fd, signal)
    return { fd: file.fd, exclusive, [Symbol.asyncDispose]: () => file.close() }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Node has no flock(2): flock(1) locks the open file that it shares with this process, and exits. */
async function flock(git: Git, fd: number, signal?: AbortSignal): Promise<boolean> {
  signal?.throwIfAborted()
  const child = git.spawn('flock', ['-x', '3'], { holdFd: fd })
  const onAbort = () => child.kill()
  signal?.addEventListener('abort', onAbort)
  try {
    const [code] = await once(child, 'close')
    signal?.throwIfAborted()
    if (code !== 0) throw new Error(`flock ended with status ${code}`)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}
