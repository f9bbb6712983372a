import { createHash } from 'node:crypto'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { splitReference } from '../registry/image-name.ts'
import type { Builder, BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { type BuildkitBuilderOptions, buildkitBuilder, CACHE_TAG } from './buildkit/builder.ts'

export interface FarmBuilderOptions extends Omit<BuildkitBuilderOptions, 'endpoint' | 'images'> {
  /** One or several; each has a name of its own. */
  endpoints: Endpoint[]
  /** Builds of ours that run on a node before the next one takes over; 4 by default. */
  maxBuilds?: number
  /** How long a node that could not be reached is left alone, in milliseconds; 10 s by default. */
  pauseMs?: number
}

interface FarmNode {
  endpoint: Endpoint
  builder: Builder
  running: number
  /** When it is asked again, on the clock of `performance.now`. */
  downUntil: number
}

/**
 * Builds on BuildKits of their own. Each repository has an order of the nodes that is always the same, so
 * that it meets its cache; where the first is busy or down, the next one builds. A node that is added or
 * removed changes the first choice of a fair share of the repositories only (rendezvous hashing).
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
  /** Where images were built last: what is to be kept of their cache is there. */
  const builtOn = new Map<string, FarmNode>()

  /** The first of a repository's nodes that can be reached, and is not busy unless all are. */
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
        await say(`${(error as Error).message}: trying the next one`)
        continue
      }
      const first = order.find((one) => one.downUntil <= performance.now())
      if (first && first !== node)
        await say(`${first.endpoint.name} is busy (${first.running} of ${maxBuilds} builds)`)
      return node
    }
    const names = nodes.map(({ endpoint }) => endpoint.name).join(', ')
    throw new ConveyorError('unavailable', `no BuildKit can be reached, of ${names}`, {
      hint: failed[0] ?? 'Check that they run, and --buildkit.addr',
    })
  }

  /** Builds on a node, which takes from the registry what it has not built itself. */
  async function buildOn(node: FarmNode, input: BuildInput, io: BuilderIo): Promise<BuiltImage> {
    const image = splitReference(input.reference)
    const imageName = image.name
    const warm = !input.cache || (await node.builder.isWarm(imageName))
    const kept =
      input.cacheFrom.length > 0 || !exportCache ? input.cacheFrom : [`${image.withTag(CACHE_TAG)}`]
    builtOn.set(imageName, node)
    return node.builder.build({ ...input, cacheFrom: warm ? [] : kept }, io)
  }

  return {
    async describe() {
      const names = endpoints.map(({ name }) => name).join(', ')
      return `builds go to BuildKit at ${names}${nodes.length > 1 ? `, by repository, ${maxBuilds} at a time each` : ''}`
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
    // A BuildKit has no images of its own.
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

/** The nodes from the first choice of an image to its last. */
function inOrder(imageName: string, nodes: FarmNode[]): FarmNode[] {
  const weight = (node: FarmNode) =>
    createHash('sha256').update(`${node.endpoint.name}\n${imageName}`).digest('hex')
  return nodes
    .map((node) => ({ node, weight: weight(node) }))
    .sort((a, b) => (a.weight < b.weight ? 1 : -1))
    .map(({ node }) => node)
}
