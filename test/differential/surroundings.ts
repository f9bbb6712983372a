import { mkdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { startBuildkitd } from '../support/engines/buildkitd.ts'
import { docker, type Engine, startPrivateEngine } from '../support/engines/engine.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { startTrixieEngine } from '../support/trixie.ts'
import { type BaseImages, publishBases } from './generate/base-image.ts'
import {
  buildctlEngineReference,
  buildctlReference,
  clientOf,
  dockerReference,
  openDoor,
  pruneBuildkit,
  type Reference,
} from './reference.ts'
import { type Subject, type SubjectOptions, startSubject } from './subject.ts'

/** Engine 20.10 through `/build`; 26.1 with containerd's image store; a buildkitd. */
export const BUILDERS = ['engine', 'containerd', 'buildkitd'] as const
export type BuilderName = (typeof BUILDERS)[number]

/** Conveyor and the reference, with separate engines of the same version. */
export interface Surroundings extends AsyncDisposable {
  readonly builder: BuilderName
  readonly subject: Subject
  readonly reference: Reference
  /** A current client with the engine of the reference, if that engine is older. */
  readonly newer: Reference | null
  readonly bases: BaseImages
  /** Folder of the repositories, `OWNER/NAME.git`. */
  readonly repositories: string
  /** Deletes the caches of both sides. */
  prune(): Promise<void>
  /** A folder for temporary files. */
  readonly scratch: string
}

export interface SurroundingsOptions {
  /** The `src` folder of the code to test. */
  src?: string | undefined
  /** Time limit of a build. */
  timeoutMs?: number
}

export async function surround(
  builder: BuilderName,
  options: SurroundingsOptions = {},
): Promise<Surroundings> {
  await using resources = new AsyncDisposableStack()
  const { path } = resources.use(await fastFolder())
  const [repositories, scratch, dir] = ['repositories', 'scratch', 'data'].map((name) =>
    join(path, name),
  ) as [string, string, string]
  await Promise.all([mkdir(repositories), mkdir(scratch)])
  const registry = resources.use(await startRegistry({ dir: join(path, 'registry') }))
  const bases = await publishBases(registry)
  const common = {
    dir,
    gitUrl: `file://${repositories}/{repository}.git`,
    registry: registry.host,
    src: options.src,
    timeoutMs: options.timeoutMs ?? 240_000,
  }
  const { reference, newer, prune, ...own } = await enginesOf(builder, resources, registry.host, path)
  const subject = resources.use(await startSubject({ ...common, ...own }))
  const owned = resources.move()
  return {
    ...{ builder, subject, reference, newer, prune, bases, repositories, scratch },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const MEMORY = '/dev/shm'
/** More than enough for any number of small images. */
const ENOUGH_BYTES = 4 * 1024 ** 3

/**
 * A temporary folder, in memory if there is room: in BuildKit, every step waits for the disk, which takes most of the
 * time of a small build.
 */
async function fastFolder(): Promise<TempDir> {
  const free = await statfs(MEMORY).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => 0,
  )
  return tempDir('conveyor-differential-', free > ENOUGH_BYTES ? MEMORY : undefined)
}

/** Two engines of the same kind: Conveyor's options for the first, and a reference with the second. */
async function enginesOf(
  builder: BuilderName,
  resources: AsyncDisposableStack,
  registry: string,
  path: string,
): Promise<
  Pick<SubjectOptions, 'builder' | 'dockerHost'> & Pick<Surroundings, 'reference' | 'newer' | 'prune'>
> {
  const RUN_NETWORK = { 'build.network': 'host' }
  if (builder === 'buildkitd') {
    const start = (name: string) => startBuildkitd({ dataDir: join(path, name) })
    const [ours, theirs] = await Promise.all([start('subject'), start('reference')])
    resources.use(ours)
    resources.use(theirs)
    return {
      builder: { ...RUN_NETWORK, builder: 'buildkit', 'buildkit.addr': ours.socket },
      dockerHost: null,
      reference: buildctlReference(theirs.socket, registry),
      newer: null,
      prune: async () => {
        await Promise.all([ours, theirs].map(({ socket }) => pruneBuildkit(socket)))
      },
    }
  }
  if (builder === 'containerd') {
    const start = (name: string) => startTrixieEngine({ store: 'containerd', dataDir: join(path, name) })
    const [ours, theirs] = await Promise.all([start('subject'), start('reference')])
    resources.use(ours)
    resources.use(theirs)
    const door = resources.use(await openDoor(theirs))
    return {
      builder: RUN_NETWORK,
      dockerHost: ours.dockerHost,
      reference: buildctlReference(door.address, registry),
      newer: null,
      prune: () => pruneEngines([ours, theirs]),
    }
  }
  const start = (name: string) => startPrivateEngine(join(path, name), { removeData: true })
  const [ours, theirs] = await Promise.all([start('subject'), start('reference')])
  resources.use(ours)
  resources.use(theirs)
  const door = resources.use(await openDoor(theirs))
  return {
    builder: RUN_NETWORK,
    dockerHost: ours.dockerHost,
    reference: dockerReference(theirs, await clientOf(theirs)),
    newer: buildctlEngineReference(theirs, door),
    prune: () => pruneEngines([ours, theirs]),
  }
}

async function pruneEngines(engines: Engine[]): Promise<void> {
  await Promise.all(engines.map((engine) => docker(engine).pruneBuilder({ all: true } as object)))
}
