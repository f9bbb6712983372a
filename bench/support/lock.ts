import { start } from '../../test/support/processes.ts'

/**
 * Makes sure that no other benchmark works in the same folder: it would take the disks away from this one.
 * The lock goes with this process, however it ends.
 */
export async function lock(file: string): Promise<AsyncDisposable> {
  // `cat` ends with its input, which is our end of a pipe.
  const args = ['--nonblock', file, 'sh', '-c', 'echo locked; exec cat']
  const holder = await start('flock', args, { stdio: 'pipe', detached: true })
  try {
    await holder.waitFor(/locked/)
  } catch {
    throw new Error('another benchmark is running here; wait for its end')
  }
  return holder
}
