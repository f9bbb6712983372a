import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import {
  ArtifactJson,
  BuildJson,
  BuildOrderJson,
  EndEventJson,
  LogEventJson,
  NoticeEventJson,
} from '../../api/build.ts'
import { Type } from '../../api/type.ts'
import { artifactJson, buildJson } from '../../api/views.ts'
import { notAllowed } from '../../core/allowed-repositories.ts'
import { type Build, type BuildRequest, isEnded, shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { about } from '../../core/log.ts'
import { traceParent } from '../../core/trace-context.ts'
import { requestBuild } from '../../pipeline/accept.ts'
import { approvedRequest, refuseUnapproved } from '../../pipeline/pulls/approve.ts'
import { type ResolvedRequest, resolveRequest } from '../../pipeline/resolve-request.ts'
import type { IdempotencyKey } from '../../store/build-list.ts'
import type { Accepted } from '../../store/build-store.ts'
import { preferredFormat, prefersHtml } from '../accept.ts'
import { mayUse } from '../access/identity.ts'
import { type BuildEvent, imageOf } from '../logs/follow.ts'
import { findArtifact, findBuild } from '../lookup.ts'
import type { ServerOptions } from '../options.ts'
import { sendProblem } from '../problems.ts'
import { answers, events, json, LOCATION, oneOf, text } from './answers.ts'
import { type BuildBody, formAsJson, parseBuildBody } from './build-body.ts'
import { CommitPath, IdPath } from './parameters.ts'

const TAGS = ['builds']

/** The events that describe a build. */
export const BUILD_EVENTS = events(
  'Server-sent events until the build ends: `build` whenever its state has changed, `log` for each piece of the log, `notice` for what the server has to say, and `end`',
  { build: BuildJson, log: LogEventJson, notice: NoticeEventJson, end: EndEventJson },
)
const LOG_AND_RESULT = text('The log, while it is written; the last line is the image, or `error: …`')

const REQUEST_BUILD = {
  operationId: 'requestBuild',
  tags: TAGS,
  summary: 'Build a commit, or the head of a branch',
  description:
    'Joins the build of the commit if it is already being built, and answers at once if it was built before. The body is read as JSON whatever its content type; keys may also be spelled `Repository`, `Sha` and `Branch`.',
  headers: Type.Object({
    'idempotency-key': Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        description:
          'Any text that is new for every request: a request that is sent again with it within 24 hours gets the same build',
        examples: ['8e03978e-40d5-43dd-bc93-6894a57f9324'],
      }),
    ),
  }),
  body: BuildOrderJson,
  response: answers(
    {
      200: {
        ...oneOf(
          'The log or the events of the build; in JSON, a build that already existed',
          LOG_AND_RESULT,
          BUILD_EVENTS,
          json('', BuildJson),
        ),
        headers: LOCATION,
      },
      201: { ...json('A new build', BuildJson), headers: LOCATION },
      303: { description: 'To a form of a page: to the page of the build', headers: LOCATION },
    },
    404,
    409,
    413,
    422,
    502,
    504,
  ),
}

const GET_BUILD = {
  operationId: 'getBuild',
  tags: TAGS,
  summary: 'Show a build',
  params: IdPath,
  response: answers({ 200: json('The build', BuildJson) }, 404),
}
const GET_BUILD_OF_COMMIT = {
  ...GET_BUILD,
  operationId: 'getBuildOfCommit',
  summary: 'Show the newest build of a commit',
  params: CommitPath,
}
const GET_ARTIFACT = {
  operationId: 'getArtifact',
  tags: TAGS,
  summary: 'Show what a build published',
  params: IdPath,
  response: answers({ 200: json('The artifact', ArtifactJson) }, 404),
}
const GET_ARTIFACT_OF_COMMIT = {
  ...GET_ARTIFACT,
  operationId: 'getArtifactOfCommit',
  summary: 'Show the newest image of a commit',
  params: CommitPath,
}

/** `reused`: the commit was built before, and its tags are in place. */
type SubmitOutcome = Accepted['outcome'] | 'reused'

/** Streams a running or finished build as the response; see buildSender in logs/route.ts. */
export type SendBuild = (
  reply: FastifyReply,
  format: 'text' | 'events',
  source: Build | AsyncIterable<BuildEvent>,
) => Promise<void>

/** POST /builds, GET /builds/{id | owner/repo@sha}, GET /artifacts/{id | owner/repo@sha}. */
export async function buildsRoutes(
  app: FastifyInstance,
  options: ServerOptions & { sendBuild: SendBuild },
): Promise<void> {
  const { store } = options
  app.removeAllContentTypeParsers()
  // `curl -d` declares its body a form; it is parsed as JSON whatever its content type.
  app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: FastifyRequest, text: string) => text)

  app.post(
    '/builds',
    { bodyLimit: 64 * 1024, config: { scope: 'build' }, schema: REQUEST_BUILD },
    async (request, reply) => {
      const text = typeof request.body === 'string' ? request.body : ''
      const fromPage = isForm(request)
      const body = parseBuildBody(fromPage ? formAsJson(text) : text)
      if (!mayUse(request.identity, body.repository)) {
        const hint = 'Check its name, and which repositories the token is for'
        return sendProblem(reply, 404, 'not_found', `repository ${body.repository} not found`, hint)
      }
      if (options.isAllowed?.(body.repository) === false) {
        return sendProblem(reply, 403, 'forbidden', notAllowed(body.repository))
      }
      const key = idempotencyKey(request, body)
      const trace = traceParent(String(request.headers.traceparent ?? ''))
      const repeated = key && (await store.repeated(key))
      const { build, outcome } = repeated
        ? { build: repeated, outcome: 'redelivered' as const }
        : await submit({ ...body, by: request.identity.name || 'API', ...(trace && { trace }) }, options, key)
      const fields = { ...about(build), request: request.id }
      options.log(`api: build ${build.id} of ${shortName(build)} (${outcome})`, fields)
      for (const { tag, reason } of build.withheld ?? []) {
        options.log(`api: build ${build.id} does not move tag ${tag}: ${reason}`, fields)
      }

      // On the host that the browser uses: a page's policy forbids that a form leads to another one.
      if (fromPage) return reply.header('location', `${app.site().path}/builds/${build.id}`).code(303).send()
      const base = options.baseUrl()
      reply.header('location', `${base}/builds/${build.id}`)
      const format = preferredFormat(request.headers.accept, ['text', 'json', 'events'])
      const image = await imageOf(store, build)
      if (format === 'json') {
        return reply.code(outcome === 'created' ? 201 : 200).send(buildJson(build, image, base))
      }
      await options.sendBuild(
        reply,
        format,
        outcome === 'reused' ? finishedBuild(build, image, format) : build,
      )
      return reply
    },
  )

  const getBuild = async (request: FastifyRequest) => {
    const build = await findBuild(store, request)
    return buildJson(build, await imageOf(store, build), options.baseUrl())
  }
  const read = { config: { scope: 'read' } } as const
  app.get('/builds/:key', { ...read, schema: GET_BUILD }, getBuild)
  app.get('/builds/:owner/:name', { ...read, schema: GET_BUILD_OF_COMMIT }, getBuild)

  const getArtifact = async (request: FastifyRequest) => {
    const artifact = await findArtifact(store, request)
    return artifactJson(artifact, await store.commitsOf(artifact.image))
  }
  app.get('/artifacts/:key', { ...read, schema: GET_ARTIFACT }, getArtifact)
  app.get('/artifacts/:owner/:name', { ...read, schema: GET_ARTIFACT_OF_COMMIT }, getArtifact)
}

/** Finds a build that satisfies the request, or accepts a new one. */
async function submit(
  { cache, trace, by, ...order }: BuildBody & { trace?: string; by: string },
  options: ServerOptions,
  key: IdempotencyKey | undefined,
): Promise<{ build: Build; outcome: SubmitOutcome }> {
  const { pull, ...wanted } = order
  const { repository: named, sha: given } = order
  const placed: ResolvedRequest & Pick<BuildRequest, 'fork'> =
    pull !== null && given !== null
      ? await approvedRequest({ repository: named, pull, sha: given, by }, options)
      : await resolveRequest(wanted, options)
  const { repository, sha, withheld, fork } = placed
  if (pull === null) await refuseUnapproved(repository, sha, options)
  const newest = await options.store.newest(repository, sha, fork?.pull)
  if (cache && newest?.state === 'succeeded' && hasMovedTags(newest, placed)) {
    if (key) await options.store.keep(key, newest.id)
    return { build: withheld ? { ...newest, withheld } : newest, outcome: 'reused' }
  }
  const source = { kind: 'api' } as const
  const asked = { ...placed, cache, ...(trace && { trace }), defaultBranch: null, source }
  return requestBuild(asked, options, key)
}

/** Whether a page's form sent it. curl gives everything that type, but does not ask for HTML. */
function isForm({ headers }: FastifyRequest): boolean {
  const [type = ''] = (headers['content-type'] ?? '').split(';')
  return type.trim().toLowerCase() === 'application/x-www-form-urlencoded' && prefersHtml(headers.accept)
}

/** The key of a request that may be repeated; each sender has their own keys. */
function idempotencyKey(request: FastifyRequest, body: BuildBody): IdempotencyKey | undefined {
  const given = request.headers['idempotency-key']
  if (given === undefined) return undefined
  if (typeof given !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(given)) {
    throw new ConveyorError(
      'invalid',
      'the header Idempotency-Key must be 1 to 255 printable ASCII characters',
      {
        field: 'Idempotency-Key',
      },
    )
  }
  const digest = (...parts: unknown[]) => createHash('sha256').update(JSON.stringify(parts)).digest('hex')
  const { name, token = null } = request.identity
  return { key: digest(name, token, given), body: digest(body) }
}

/** Whether a build moved the tags of this request: one for other refs only did not, nor `latest` without a push. */
function hasMovedTags(build: Build, { ref, within }: ResolvedRequest): boolean {
  if (ref === null) return !within || build.pushOrder > 0
  return build.refs.some(({ kind, name }) => kind === ref.kind && name === ref.name)
}

/** Events of a build that finished before this request: its result, without its old log. */
async function* finishedBuild(
  build: Build,
  image: string | null,
  format: 'text' | 'events',
): AsyncGenerator<BuildEvent> {
  if (!isEnded(build.state)) throw new Error(`build ${build.id} is still ${build.state}`)
  yield { kind: 'build', build, image }
  // Event streams have the withheld tags in the build itself.
  for (const { tag, reason } of format === 'text' ? (build.withheld ?? []) : []) {
    yield { kind: 'notice', text: `tag ${tag} is not moved: ${reason}` }
  }
  yield { kind: 'end', build, image }
}
