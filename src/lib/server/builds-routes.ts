import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { artifactJson, buildJson } from '../api/views.ts'
import { notAllowed } from '../core/allowed-repositories.ts'
import { type Build, isEnded, shortName } from '../core/build.ts'
import { requestBuild } from '../pipeline/accept.ts'
import { type PlacedOrder, placeOrder } from '../pipeline/place-request.ts'
import type { Accepted } from '../store/build-store.ts'
import { type BuildOrder, parseBuildBody } from './build-body.ts'
import { type Format, preferredFormat } from './formats.ts'
import { type Happening, imageOf } from './logs/follow.ts'
import { type BuildParams, findArtifact, findBuild } from './lookup.ts'
import type { ServerOptions } from './options.ts'
import { sendProblem } from './problems.ts'

/** `reused`: the commit was built before, and nothing is to be done. */
type Outcome = Accepted['outcome'] | 'reused'

/** Answers with a build as it goes on; see logs-route.ts. */
export type SendBuild = (
  reply: FastifyReply,
  format: 'text' | 'events',
  source: Build | AsyncIterable<Happening>,
) => Promise<void>

/** POST /builds, GET /builds/{id | owner/repo@sha}, GET /artifacts/{id | owner/repo@sha}. */
export async function buildsRoutes(
  app: FastifyInstance,
  options: ServerOptions & { sendBuild: SendBuild },
): Promise<void> {
  const { store } = options
  app.removeAllContentTypeParsers()
  // `curl -d` says that its body is a form; whatever it says, it is read as JSON.
  app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: FastifyRequest, body: string) => body)

  app.post('/builds', { bodyLimit: 64 * 1024 }, async (request, reply) => {
    const order = parseBuildBody(typeof request.body === 'string' ? request.body : '')
    if (options.isAllowed?.(order.repository) === false) {
      return sendProblem(reply, 403, 'forbidden', notAllowed(order.repository))
    }
    const { build, outcome } = await submit(order, options)
    options.log(`api: ${shortName(build)} is build ${build.id} (${outcome})`)
    for (const { tag, reason } of build.withheld ?? []) {
      options.log(`api: build ${build.id} does not move tag ${tag}: ${reason}`)
    }

    const base = options.baseUrl()
    reply.header('location', `${base}/builds/${build.id}`)
    const format = preferredFormat(request.headers.accept)
    const image = await imageOf(store, build)
    if (format === 'json') {
      return reply.code(outcome === 'created' ? 201 : 200).send(buildJson(build, image, base))
    }
    await options.sendBuild(reply, format, outcome === 'reused' ? atOnce(build, image, format) : build)
    return reply
  })

  const getBuild = async (request: FastifyRequest) => {
    const build = await findBuild(store, request.params as BuildParams)
    return buildJson(build, await imageOf(store, build), options.baseUrl())
  }
  app.get('/builds/:key', getBuild)
  app.get('/builds/:owner/:name', getBuild)

  const getArtifact = async (request: FastifyRequest) => {
    const artifact = await findArtifact(store, request.params as BuildParams)
    return artifactJson(artifact, await store.commitsOf(artifact.image))
  }
  app.get('/artifacts/:key', getArtifact)
  app.get('/artifacts/:owner/:name', getArtifact)
}

/** Finds or makes the build that answers an order. */
async function submit(
  { cache, ...order }: BuildOrder,
  options: ServerOptions,
): Promise<{ build: Build; outcome: Outcome }> {
  const placed = await placeOrder(order, options)
  const { repository, sha, withheld } = placed
  const newest = await options.store.newest(repository, sha)
  if (cache && newest?.state === 'succeeded' && hasMoved(newest, placed)) {
    return { build: withheld ? { ...newest, withheld } : newest, outcome: 'reused' }
  }
  return requestBuild({ ...placed, cache, defaultBranch: null, source: { kind: 'api' } }, options)
}

/** A build that was made for other refs only has not moved the tag of this one; nor `latest`, without a push. */
function hasMoved(build: Build, { ref, within }: PlacedOrder): boolean {
  if (ref === null) return !within || build.pushOrder > 0
  return build.refs.some(({ kind, name }) => kind === ref.kind && name === ref.name)
}

/** A build that had ended before it was asked for: its result, without the log of long ago. */
async function* atOnce(build: Build, image: string | null, format: Format): AsyncGenerator<Happening> {
  if (!isEnded(build.state)) throw new Error(`build ${build.id} is still ${build.state}`)
  yield { kind: 'build', build, image }
  // Who gets events has it with the build.
  for (const { tag, reason } of format === 'text' ? (build.withheld ?? []) : []) {
    yield { kind: 'notice', text: `tag ${tag} is not moved: ${reason}` }
  }
  yield { kind: 'end', build, image }
}
