import { engineEndpoint } from '../../buildkit/engine-endpoint.ts'
import { listWorkers } from '../../buildkit/workers.ts'
import { engineDown } from '../../docker/errors.ts'
import { imageId, tidyImages } from '../../docker/images.ts'
import { request } from '../../docker/request.ts'
import type { Builder } from '../builder.ts'
import { type BuildkitBuilderOptions, buildkitBuilder } from '../buildkit/builder.ts'
import { type EngineBuilderOptions, engineBuilder } from './builder.ts'

export type DockerBuilderOptions = EngineBuilderOptions & Omit<BuildkitBuilderOptions, 'endpoint' | 'images'>

interface Choice {
  builder: Builder
  /** What was chosen and why, in one line. */
  reason: string
}

/**
 * Builds in a Docker Engine, in the fastest way it supports. With the containerd image store, BuildKit itself compresses
 * and pushes layers in parallel while it exports. With the classic store, the engine builds and then pushes, and
 * compresses layers one by one. The engine is queried once, when it is first needed; until it responds, every method
 * throws ConveyorError `unavailable`.
 */
export function dockerBuilder(options: DockerBuilderOptions): Builder {
  let choice: Promise<Choice> | undefined
  const chosen = (): Promise<Choice> => {
    choice ??= choose(options).catch((error) => {
      choice = undefined // query again next time
      throw error
    })
    return choice
  }
  const builder = async () => (await chosen()).builder
  return {
    describe: async () => (await chosen()).reason,
    platform: async (imageName) => (await builder()).platform(imageName),
    cacheTag: async () => (await builder()).cacheTag(),
    isWarm: async (imageName) => (await builder()).isWarm(imageName),
    prefetch: async (...args) => (await builder()).prefetch(...args),
    prefetchBase: async (...args) => (await builder()).prefetchBase(...args),
    build: async (input, io) => (await builder()).build(input, io),
    // Called after a build, so the choice has been made.
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
    // For example, a proxy in front of the engine blocks the request.
    await request(docker, 'GET', '/_ping').catch(engineDown)
    return classic(`cannot reach its BuildKit (${(error as Error).message})`)
  }
  const snapshotter = stores.find((store) => store !== undefined)
  if (snapshotter === undefined) return classic('classic image store')
  const builder = buildkitBuilder({
    ...options,
    endpoint,
    images: {
      localImage: (name) => imageId(docker, name),
      tidy: (imageName) => tidyImages(docker, imageName, keepImages, () => false),
    },
  })
  return { builder, reason: `${await builder.describe()}: containerd image store (${snapshotter})` }
}

/** Only a BuildKit with the containerd store reports a snapshotter. */
const SNAPSHOTTER = 'org.mobyproject.buildkit.worker.snapshotter'
