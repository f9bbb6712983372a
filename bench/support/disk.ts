import { mkdir, readFile, realpath, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './run.ts'

/** A file system of its own for what is measured, so that no run pays for what another one left behind. */
export interface Disk extends AsyncDisposable {
  readonly path: string
  readonly kind: 'ext4' | 'tmpfs'
  /** Makes it empty: as new, not by deleting. Nothing may be open on it. */
  renew(): Promise<void>
  /** Resolves when nothing waits to be written, so that one run does not write during the next. */
  settle(): Promise<void>
}

const SIZE = 40 * 2 ** 30

/**
 * A new ext4 with a journal in a file of `folder`. Where no loop device can be mounted, a tmpfs. The file
 * is sparse: it takes the room of what is written to it.
 */
export async function freshDisk(folder: string, name: string): Promise<Disk> {
  const path = join(folder, name)
  const image = `${path}.img`
  await mkdir(path, { recursive: true })
  const mountPoint = await realpath(path)
  await unmount(mountPoint) // what a run that was killed left behind

  const mountNew = async () => {
    await rm(image, { force: true })
    await writeFile(image, '')
    await truncate(image, SIZE)
    // No lazy initialization, which would continue in the background of the measurements.
    await run('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=1,lazy_journal_init=1', image])
    await run('mount', ['-o', 'loop,noatime,noinit_itable', image, mountPoint])
  }
  let kind: Disk['kind'] = 'ext4'
  const mount = async () => {
    if (kind === 'tmpfs') return run('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', mountPoint])
    return mountNew()
  }
  try {
    await mount()
  } catch {
    kind = 'tmpfs'
    await rm(image, { force: true })
    await mount()
  }
  return {
    path: mountPoint,
    kind,
    async renew() {
      await unmount(mountPoint)
      await mount()
    },
    async settle() {
      await run('sync', ['--file-system', mountPoint])
    },
    async [Symbol.asyncDispose]() {
      await unmount(mountPoint)
      await rm(image, { force: true })
    },
  }
}

/** Unmounts whatever is mounted there or below. */
async function unmount(path: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  const points = mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point === path || point.startsWith(`${path}/`))
  for (const point of points.reverse()) await run('umount', [point])
}
