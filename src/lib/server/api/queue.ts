import type { FastifyInstance } from 'fastify'
import { type QueuedBuildJson, QueueJson, type WorkerJson, WorkersJson } from '../../api/fleet.ts'
import { type Static, Type } from '../../api/type.ts'
import { buildJson } from '../../api/views.ts'
import type { BuildStore } from '../../store/build-store.ts'
import type { WaitingBuild, WorkerInfo } from '../../store/fleet.ts'
import { type Identity, mayUse } from '../access/identity.ts'
import type { ServerOptions } from '../options.ts'
import { answers, json } from './answers.ts'
import { PAGE } from './parameters.ts'

const QueueQuery = Type.Object(PAGE)

const GET_QUEUE = {
  operationId: 'getQueue',
  tags: ['fleet'],
  summary: 'Show how much there is to do, and what waits for what',
  querystring: QueueQuery,
  response: answers({ 200: json('The queue', QueueJson) }),
}
const LIST_WORKERS = {
  operationId: 'listWorkers',
  tags: ['fleet'],
  summary: 'List the processes that run builds',
  description: 'A worker that has not reported itself for a minute is not listed.',
  response: answers({ 200: json('The workers', WorkersJson) }),
}

/** GET /queue, GET /workers. */
export async function queueRoutes(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const { store } = options
  app.get('/queue', { config: { scope: 'read' }, schema: GET_QUEUE }, async (request) => {
    const { limit, cursor } = request.query as Static<typeof QueueQuery>
    return readQueue(store, request.identity, { limit, cursor, baseUrl: options.baseUrl() })
  })
  app.get('/workers', { config: { scope: 'read' }, schema: LIST_WORKERS }, async (request) =>
    readWorkers(store, request.identity),
  )
}

/** The queue as somebody may see it. @throws ConveyorError `invalid` for a bad cursor */
export async function readQueue(
  store: BuildStore,
  identity: Identity,
  { limit, cursor, baseUrl }: { limit: number; cursor?: string | undefined; baseUrl: string },
): Promise<QueueJson> {
  const { repositories } = identity
  const [page, workers] = await Promise.all([
    store.waiting({
      limit,
      ...(cursor !== undefined && { cursor }),
      ...(repositories !== null && { allowed: repositories }),
    }),
    store.workers.list(),
  ])
  const { pending, building, next } = page
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0)
  const now = Date.now()
  return {
    ...{ pending, building, workers: workers.length, slots },
    builds: page.builds.map((waiting) => ({
      build: buildJson(waiting.build, null, baseUrl),
      position: waiting.position,
      waiting_seconds: Math.max(0, Math.round(now - Date.parse(waiting.build.createdAt)) / 1000),
      waits_for: waitsFor(waiting, { workers: workers.length, free: slots - building, now }),
      retry_at: waiting.retryAt,
    })),
    next,
  }
}

/** The workers as somebody may see them. */
export async function readWorkers(store: BuildStore, identity: Identity): Promise<WorkersJson> {
  const workers = await store.workers.list()
  const visible = async (id: string) => {
    if (identity.repositories === null) return true
    const build = await store.get(id)
    return build !== null && mayUse(identity, build.repository)
  }
  const shown = async (worker: WorkerInfo): Promise<WorkerJson> => {
    const seen = await Promise.all(worker.builds.map(visible))
    const { id, host, pid, version, slots, startedAt, seenAt } = worker
    return {
      ...{ id, host, pid, version, slots },
      builds: worker.builds.filter((_, i) => seen[i]),
      warm: worker.warm.filter((repository) => mayUse(identity, repository)),
      started_at: startedAt,
      seen_at: seenAt,
    }
  }
  return { workers: await Promise.all(workers.map(shown)) }
}

/** What a build waits for. @param free slots that are not in use, of all workers */
export function waitsFor(
  { build, retryAt, position }: WaitingBuild,
  { workers, free, now }: { workers: number; free: number; now: number },
): QueuedBuildJson['waits_for'] {
  if (workers === 0) return 'worker'
  if (retryAt !== null && Date.parse(retryAt) > now) return 'retry'
  if (build.suspect) return 'alone'
  return position > free ? 'slot' : 'start'
}
