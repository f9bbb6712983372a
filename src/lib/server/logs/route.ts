import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from '../../api/type.ts'
import { type Build, isEnded, shortName } from '../../core/build.ts'
import { answers, text } from '../api/answers.ts'
import { BUILD_EVENTS, type SendBuild } from '../api/builds.ts'
import { CommitPath, IdPath } from '../api/parameters.ts'
import { parseValue } from '../api/values.ts'
import { asEvents, asText, STILL_RUNNING } from '../formats.ts'
import { findBuild } from '../lookup.ts'
import type { ServerOptions } from '../options.ts'
import { type BuildEvent, type FollowParts, follow } from './follow.ts'
import type { Streams } from './streams.ts'

export const TEXT = 'text/plain; charset=utf-8'
const EVENTS = 'text/event-stream'

const Offset = Type.Integer({
  minimum: 0,
  default: 0,
  description: 'Where to start, in bytes',
  'x-must': 'be a byte offset, 0 or greater',
})
const EventsQuery = Type.Object({ offset: Offset })
const LogQuery = Type.Object({
  offset: Offset,
  follow: Type.Boolean({ default: true, description: 'False stops at the present end of the log' }),
  download: Type.Boolean({ default: false, description: 'Whether browsers save it; also without a value' }),
})

const GET_LOG = {
  operationId: 'getLog',
  tags: ['logs'],
  summary: 'Read or follow a log',
  description: `While the log is quiet, a line \`${STILL_RUNNING}\` appears from time to time; it does not count in offsets.`,
  params: IdPath,
  querystring: LogQuery,
  response: answers({ 200: text('The log, until the build ends') }, 404),
}
const GET_LOG_OF_COMMIT = {
  ...GET_LOG,
  operationId: 'getLogOfCommit',
  summary: 'Read or follow the log of the newest build of a commit',
  params: CommitPath,
}
const FOLLOW = {
  operationId: 'followBuild',
  tags: ['logs'],
  summary: 'Follow a build',
  params: IdPath,
  querystring: EventsQuery,
  headers: Type.Object({
    'last-event-id': Type.Optional(
      Type.String({ description: 'The id of the last event received, instead of `offset`' }),
    ),
  }),
  response: answers({ 200: BUILD_EVENTS }, 404),
}
const FOLLOW_COMMIT = {
  ...FOLLOW,
  operationId: 'followBuildOfCommit',
  summary: 'Follow the newest build of a commit',
  params: CommitPath,
}

/** GET /logs/{id | owner/repo@sha} as text, GET /builds/{id | owner/repo@sha}/events as an event stream. */
export async function logsRoute(
  app: FastifyInstance,
  options: ServerOptions & { streams: Streams; parts: FollowParts },
): Promise<void> {
  const { parts, streams } = options

  const getLog = async (request: FastifyRequest, reply: FastifyReply) => {
    const { offset, follow: live } = request.query as Static<typeof LogQuery>
    const build = await findBuild(parts.store, request)
    if (asksForDownload(request.url)) {
      const name = `${shortName(build).replace(/[^\w.@-]+/g, '-')}-${build.id.slice(0, 8)}.log`
      reply.header('content-disposition', `attachment; filename="${name}"`)
    }
    const events = (signal: AbortSignal) =>
      live ? follow(parts, build, { offset, signal }) : logNow(parts, build, { offset, signal })
    await streams.send(reply, TEXT, (signal) => asText(events(signal), { result: false }))
    return reply
  }
  const getEvents = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    // A browser that reconnects repeats the original URL, and sends its position in this header.
    const last = request.headers['last-event-id']
    const offset =
      typeof last === 'string' && last !== ''
        ? Number(parseValue('Last-Event-ID', Offset, last))
        : (request.query as Static<typeof EventsQuery>).offset
    await streams.send(reply, EVENTS, (signal) =>
      asEvents(follow(parts, build, { offset, signal }), { baseUrl: options.baseUrl() }),
    )
    return reply
  }

  const stream = { exposeHeadRoute: false, config: { scope: 'read' } } as const
  app.get('/logs/:key', { ...stream, schema: GET_LOG }, getLog)
  app.get('/logs/:owner/:name', { ...stream, schema: GET_LOG_OF_COMMIT }, getLog)
  app.get('/builds/:key/events', { ...stream, schema: FOLLOW }, getEvents)
  app.get('/builds/:owner/:name/events', { ...stream, schema: FOLLOW_COMMIT }, getEvents)
}

/** Makes the function that streams a build: as text, its log from the start and its result; or all of its events. */
export function buildSender(options: ServerOptions, streams: Streams, parts: FollowParts): SendBuild {
  return (reply, format, source) => {
    const events = (signal: AbortSignal) =>
      'id' in source ? follow(parts, source, { offset: 0, signal }) : source
    return format === 'text'
      ? streams.send(reply, TEXT, (signal) => asText(events(signal), { result: true }))
      : streams.send(reply, EVENTS, (signal) => asEvents(events(signal), { baseUrl: options.baseUrl() }))
  }
}

/** The log so far. */
async function* logNow(
  { logs }: FollowParts,
  build: Build,
  { offset: start, signal }: { offset: number; signal: AbortSignal },
): AsyncGenerator<BuildEvent> {
  let offset = start
  for await (const bytes of logs.read(build.id, { offset, follow: false, signal })) {
    yield { kind: 'log', offset, bytes }
    offset += bytes.length
  }
  if (offset === 0 && isEnded(build.state)) yield { kind: 'notice', text: 'This build has no stored log' }
}

/** Whether the query has `download`, without a value or with one other than false. */
function asksForDownload(url: string): boolean {
  return /[?&]download(?!=false(?:&|$))(?:[=&]|$)/.test(url)
}
