import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { notAllowed } from '../allowed-repositories.ts'
import { type Build, isEnded, type Ref, shortName } from '../build/build.ts'
import { requestBuild } from '../build/request-build.ts'
import { ConveyorError } from '../errors.ts'
import type { Accepted } from '../store/build-store.ts'
import { type BuildOrder, parseBuildBody } from './build-body.ts'
import { type Happening, imageOf } from './follow.ts'
import { preferredFormat } from './formats.ts'
import { type BuildParams, findArtifact, findBuild } from './lookup.ts'
import type { ServerOptions } from './options.ts'
import { sendProblem } from './problems.ts'
import { artifactJson, buildJson } from './views.ts'

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

    const base = options.baseUrl()
    reply.header('location', `${base}/builds/${build.id}`)
    const format = preferredFormat(request.headers.accept)
    const image = await imageOf(store, build)
    if (format === 'json') {
      return reply.code(outcome === 'created' ? 201 : 200).send(buildJson(build, image, base))
    }
    await options.sendBuild(reply, format, outcome === 'reused' ? atOnce(build, image) : build)
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
  order: BuildOrder,
  options: ServerOptions,
): Promise<{ build: Build; outcome: Outcome }> {
  const { repository, ref, cache } = order
  const head = order.sha === null ? await resolveBranch(repository, ref, options) : null
  const sha = order.sha ?? head?.sha
  if (sha === undefined) throw new ConveyorError('invalid', 'sha and branch are both missing')

  const newest = await options.store.newest(repository, sha)
  if (cache && newest?.state === 'succeeded' && publishesTo(newest, ref)) {
    return { build: newest, outcome: 'reused' }
  }
  const request = { repository, sha, ref, cache, defaultBranch: null, source: { kind: 'api' as const } }
  return requestBuild(head ? { ...request, sequence: head.sequence } : request, options)
}

/** The number is taken first, so that a push during the look-up counts as newer than what is found. */
async function resolveBranch(repository: string, ref: Ref | null, { store, forge }: ServerOptions) {
  if (ref === null) return null
  const sequence = await store.reserveSequence()
  return { sequence, sha: await forge.branchHead(repository, ref.name) }
}

/** A build that was made for other refs only has not moved the tag of this one. */
function publishesTo(build: Build, ref: Ref | null): boolean {
  return ref === null || build.refs.some(({ kind, name }) => kind === ref.kind && name === ref.name)
}

/** A build that had ended before it was asked for: its result, without the log of long ago. */
async function* atOnce(build: Build, image: string | null): AsyncGenerator<Happening> {
  if (!isEnded(build.state)) throw new Error(`build ${build.id} is still ${build.state}`)
  yield { kind: 'build', build, image }
  yield { kind: 'end', build, image }
}
