import { once } from 'node:events'
import { open } from 'node:fs/promises'
import type { Git } from './git.ts'

/** A lock that is held; `fd` is to be passed on to every process that writes under it. */
export interface MirrorLock extends AsyncDisposable {
  fd: number
  /** False where the system has no flock(1): then nothing is known about other processes. */
  exclusive: boolean
}

/**
 * Locks a file against other Conveyor processes on this machine; waits as long as it takes.
 *
 * The lock is the kernel's (flock on an open file), and git inherits the open file. So when Conveyor is
 * killed while git runs, the lock stays held exactly until that git ends, and is never left behind:
 * whoever holds it may remove every `*.lock` file that git left in the mirror.
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

/** Node has no flock(2). The program locks the open file that it shares with us, and ends. */
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
