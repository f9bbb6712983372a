import { createHash } from 'node:crypto'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { splitReference } from '../registry/image-name.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { type BuildkitBuilderOptions, buildkitBuilder, CACHE_TAG } from './buildkit/builder.ts'

export interface FarmBuilderOptions extends Omit<BuildkitBuilderOptions, 'endpoint' | 'images'> {
  /** At least one; names are unique. */
  endpoints: Endpoint[]
  /** Builds on one node before builds spill over to the next one; 4 by default. */
  maxBuilds?: number
  /** How long to skip an unreachable node, in milliseconds; 10 s by default. */
  pauseMs?: number
}

interface FarmNode {
  endpoint: Endpoint
  builder: Builder
  running: number
  /** Its own; undefined until it has told it. */
  platform?: string | null
  /** Skipped until then, on the clock of `performance.now`. */
  downUntil: number
}

/**
 * Builds on standalone buildkitd nodes. Each repository has a fixed order of nodes, so that it finds its cache; if the
 * first node is busy or down, the next one builds. Adding or removing a node changes the first choice of a
 * proportional share of the repositories only (rendezvous hashing).
 */
export function farmBuilder(options: FarmBuilderOptions): Builder {
  const { endpoints, maxBuilds = 4, pauseMs = 10_000, exportCache = true } = options
  const nodes = endpoints.map(
    (endpoint): FarmNode => ({
      endpoint,
      builder: buildkitBuilder({ ...options, endpoint }),
      running: 0,
      downUntil: 0,
    }),
  )
  /** Where images were built last, and thus where their cache is. */
  const builtOn = new Map<string, FarmNode>()

  /** The first reachable node of an image that is not busy; a busy one if all are. */
  async function pick(imageName: string, say: (line: string) => Promise<void>): Promise<FarmNode> {
    const order = inOrder(imageName, nodes)
    const failed: string[] = []
    for (const node of [...order.filter((one) => one.running < maxBuilds), ...order]) {
      if (performance.now() < node.downUntil) continue
      try {
        const socket = await node.endpoint.connect()
        socket.destroy()
      } catch (error) {
        node.downUntil = performance.now() + pauseMs
        failed.push((error as Error).message)
        await say(`${(error as Error).message}; trying the next node`)
        continue
      }
      const first = order.find((one) => one.downUntil <= performance.now())
      if (first && first !== node)
        await say(`${first.endpoint.name} is busy (${first.running} of ${maxBuilds} builds)`)
      return node
    }
    throw unreachable(failed[0])
  }

  /** What remains if no node can be used. @param why of the first one, if it is news */
  function unreachable(why?: string): ConveyorError {
    const names = nodes.map(({ endpoint }) => endpoint.name).join(', ')
    return new ConveyorError('unavailable', `cannot reach any buildkitd: ${names}`, {
      hint: why ?? 'Check that they are running and that --buildkit.addr is correct',
    })
  }

  /** Builds on a node, with the cache in the registry if the node has none of its own. */
  async function buildOn(node: FarmNode, input: BuildInput, io: BuilderIo): Promise<BuiltImage> {
    const image = splitReference(input.reference)
    const imageName = image.name
    const warm = !input.cache || (await node.builder.isWarm(imageName))
    const ready = input.cacheFrom.length > 0 || input.isolated || !exportCache
    const kept = ready ? input.cacheFrom : [`${image.withTag(CACHE_TAG)}`]
    builtOn.set(imageName, node)
    return node.builder.build({ ...input, cacheFrom: warm ? [] : kept }, io)
  }

  return {
    async describe() {
      const names = endpoints.map(({ name }) => name).join(', ')
      return `building on buildkitd at ${names}${nodes.length > 1 ? ` (nodes are assigned by repository, up to ${maxBuilds} builds each)` : ''}`
    },
    // Of the first choice, even if another node will build because that one is busy or down.
    async platform(imageName) {
      let why: string | undefined
      for (const node of inOrder(imageName, nodes)) {
        if (node.platform === undefined && performance.now() < node.downUntil) continue
        try {
          node.platform ??= await node.builder.platform(imageName)
          return node.platform
        } catch (error) {
          node.downUntil = performance.now() + pauseMs
          why ??= (error as Error).message
        }
      }
      throw unreachable(why)
    },
    cacheTag: async () => (exportCache ? CACHE_TAG : null),
    isWarm: async (imageName) => (await pick(imageName, async () => {})).builder.isWarm(imageName),
    async prefetch(imageName, ...args) {
      const node = await pick(imageName, async () => {})
      await node.builder.prefetch(imageName, ...args)
    },
    async prefetchBase(imageName, ...args) {
      const node = await pick(imageName, async () => {})
      await node.builder.prefetchBase(imageName, ...args)
    },
    // buildkitd has no local images.
    localImage: async () => null,
    async tidy() {},

    async build(input, io) {
      const say = linesTo(io.log)
      const node = await pick(splitReference(input.reference).name, say)
      if (nodes.length > 1) await say(`building on ${node.endpoint.name}`)
      node.running++
      return buildOn(node, input, io).finally(() => {
        node.running--
      })
    },

    saveCache: (imageName, input) => builtOn.get(imageName)?.builder.saveCache(imageName, input),
    async close() {
      await Promise.all(nodes.map(({ builder }) => builder.close()))
    },
  }
}

/** All nodes, from an image's first choice to its last. */
function inOrder(imageName: string, nodes: FarmNode[]): FarmNode[] {
  const weight = (node: FarmNode) =>
    createHash('sha256').update(`${node.endpoint.name}\n${imageName}`).digest('hex')
  return nodes
    .map((node) => ({ node, weight: weight(node) }))
    .sort((a, b) => (a.weight < b.weight ? 1 : -1))
    .map(({ node }) => node)
}
