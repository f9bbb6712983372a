import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type GitServer, startGitServer } from '../../test/support/git/server.ts'
import { type GitHubDouble, startGitHubDouble } from '../../test/support/github/double.ts'
import { projectRoot } from '../../test/support/processes.ts'
import { startRegistry, type TestRegistry } from '../../test/support/registry/registry.ts'
import { BASE_IMAGE, provideBaseImage } from './base-image.ts'
import { type Disk, freshDisk } from './disk.ts'
import { lock } from './lock.ts'
import { run } from './run.ts'

export const GITHUB_TOKEN = 'ghp_the-token-of-the-benchmark'
export const GITHUB_SECRET = 'the-webhook-secret-of-the-benchmark'

/** What all contenders share: the git server, GitHub's API, the registry with the base image in it. */
export interface World extends AsyncDisposable {
  readonly git: GitServer
  readonly github: GitHubDouble
  readonly registry: TestRegistry
  /** Of the disks. */
  readonly fileSystem: string
  /** As a Dockerfile names it. */
  readonly baseImage: string
  newDisk(name: string): Promise<Disk>
  /** Waits until the registry's files are written. */
  settle(): Promise<void>
  /** Makes the registry forget an image, with all its tags. */
  forget(image: string): Promise<void>
}

export async function startWorld(): Promise<World> {
  const folder = join(projectRoot, '.conveyor/bench')
  await mkdir(folder, { recursive: true })
  await using resources = new AsyncDisposableStack()
  resources.use(await lock(join(folder, 'lock')))
  await run(join(projectRoot, 'bench/setup.sh'), [])

  const disk = resources.use(await freshDisk(folder, 'registry'))
  const data = join(disk.path, 'registry')
  await provideBaseImage(folder, data)
  const registry = resources.use(await startRegistry({ dir: data }))
  const git = resources.use(await startGitServer())
  const github = resources.use(await startGitHubDouble({ token: GITHUB_TOKEN }))
  github.serveFiles(git.fileOf)
  const owned = resources.move()
  return {
    git,
    github,
    registry,
    fileSystem: disk.kind === 'ext4' ? 'ext4 with a journal, on a loop device' : disk.kind,
    baseImage: `${registry.host}/${BASE_IMAGE}`,
    newDisk: (name) => freshDisk(folder, name),
    settle: () => disk.settle(),
    forget: (image) =>
      rm(join(data, 'docker/registry/v2/repositories', image), { recursive: true, force: true }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
