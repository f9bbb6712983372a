import { engineEndpoint } from '../../buildkit/engine-endpoint.ts'
import { listWorkers } from '../../buildkit/workers.ts'
import { engineDown } from '../../docker/errors.ts'
import { imageId, tidyImages } from '../../docker/images.ts'
import type { Builder } from '../builder.ts'
import { type BuildkitBuilderOptions, buildkitBuilder } from '../buildkit/builder.ts'
import { type EngineBuilderOptions, engineBuilder } from './builder.ts'

export type DockerBuilderOptions = EngineBuilderOptions & Omit<BuildkitBuilderOptions, 'endpoint' | 'images'>

interface Choice {
  builder: Builder
  /** What was chosen, and why. */
  reason: string
}

/**
 * Builds in a Docker Engine, the fastest way that it has. With containerd's image store, BuildKit itself packs
 * and pushes layers, in parallel, while it exports; the classic store packs them one after the other when
 * the engine pushes, so there the engine builds and pushes. The engine is asked once, when it is first
 * needed; while it does not answer, every method throws ConveyorError `unavailable`.
 */
export function dockerBuilder(options: DockerBuilderOptions): Builder {
  let choice: Promise<Choice> | undefined
  const chosen = (): Promise<Choice> => {
    choice ??= choose(options).catch((error) => {
      choice = undefined // to be asked again
      throw error
    })
    return choice
  }
  const builder = async () => (await chosen()).builder
  return {
    describe: async () => (await chosen()).reason,
    cacheTag: async () => (await builder()).cacheTag(),
    isWarm: async (imageName) => (await builder()).isWarm(imageName),
    prefetch: async (...args) => (await builder()).prefetch(...args),
    prefetchBase: async (...args) => (await builder()).prefetchBase(...args),
    build: async (input, io) => (await builder()).build(input, io),
    // After a build, so the engine has been asked.
    saveCache: (...args) =>
      void builder().then(
        (it) => it.saveCache(...args),
        () => {},
      ),
    tidy: async (imageName) => (await builder()).tidy(imageName),
    localImage: async (name) => (await builder()).localImage(name),
    close: async () => (await choice?.catch(() => undefined))?.builder.close(),
  }
}

async function choose(options: DockerBuilderOptions): Promise<Choice> {
  const { docker, keepImages = 3 } = options
  const endpoint = engineEndpoint(docker)
  const classic = async (why: string): Promise<Choice> => {
    const builder = engineBuilder(options)
    return { builder, reason: `${await builder.describe()}: ${why}` }
  }
  let stores: (string | undefined)[]
  try {
    stores = (await listWorkers(endpoint)).map(({ Labels }) => Labels[SNAPSHOTTER])
  } catch (error) {
    // A proxy before the engine, say, that lets only some requests through.
    await docker.ping().catch(engineDown)
    return classic(`its BuildKit cannot be reached (${(error as Error).message})`)
  }
  const snapshotter = stores.find((store) => store !== undefined)
  if (snapshotter === undefined) return classic('its image store is the classic one')
  const builder = buildkitBuilder({
    ...options,
    endpoint,
    images: {
      localImage: (name) => imageId(docker, name),
      tidy: (imageName) => tidyImages(docker, imageName, keepImages, () => false),
    },
  })
  return { builder, reason: `${await builder.describe()}: its image store is containerd's (${snapshotter})` }
}

/** Only a BuildKit with containerd's store says what keeps its layers. */
const SNAPSHOTTER = 'org.mobyproject.buildkit.worker.snapshotter'
