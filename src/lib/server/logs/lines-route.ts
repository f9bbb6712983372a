import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import {
  HeadEventJson,
  LogLinesJson,
  LogSearchJson,
  RenderedLinesJson,
  RowsEndEventJson,
  RowsEventJson,
} from '../../api/log.ts'
import { type Static, Type } from '../../api/type.ts'
import { type Build, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { preferredFormat } from '../accept.ts'
import { mayUse } from '../access/identity.ts'
import { answers, events, json, oneOf } from '../api/answers.ts'
import { CommitPath, IdPath } from '../api/parameters.ts'
import { parseValue } from '../api/values.ts'
import { findBuild } from '../lookup.ts'
import { type FollowParts, isLogComplete } from './follow.ts'
import type { LineIndex, LineIndexes } from './line-index.ts'
import { liveRows } from './live-rows.ts'
import { inTurns, lineJson, readRows, rowRenderer } from './read-rows.ts'
import { searchLog } from './search.ts'
import { stepView } from './step-html.ts'
import type { Streams } from './streams.ts'

/** Most rows, and bytes of rows, in one response. */
const MAX_ROWS = 2000
const MAX_BYTES = 1024 * 1024
const MAX_HITS = 1000
const MAX_QUERY = 500

const row = (description: string, options: object = {}) =>
  Type.Integer({
    minimum: 1,
    maximum: 1e12,
    description,
    'x-must': 'be the number of a line, 1 or greater',
    ...options,
  })
const From = row('The first line', { default: 1 })
const LinesQuery = Type.Object({
  from: From,
  to: Type.Optional(row(`The last line; at most ${MAX_ROWS} are returned, and 1 MiB of them`)),
  format: Type.Enum(['data', 'html'], {
    type: 'string',
    default: 'data',
    description: 'html: as pages show them',
  }),
})
const SearchQuery = Type.Object({
  q: Type.String({ description: `Literal text without line breaks, at most ${MAX_QUERY} bytes` }),
  from: From,
  case: Type.Boolean({ default: false, description: 'Whether upper and lower case differ' }),
})

const GET_LINES = {
  operationId: 'getLogLines',
  tags: ['logs'],
  summary: 'Read lines of a log',
  description:
    'As an event stream, it goes on until the build ends; the id of an event is the line to continue with.',
  params: IdPath,
  querystring: LinesQuery,
  headers: Type.Object({
    'last-event-id': Type.Optional(
      Type.String({ description: 'The id of the last event received, instead of `from`' }),
    ),
  }),
  response: answers(
    {
      200: oneOf(
        'Lines of the log',
        json('', Type.Union([LogLinesJson, RenderedLinesJson])),
        events('The lines as pages show them, while they are written', {
          rows: RowsEventJson,
          head: HeadEventJson,
          notice: Type.Object({ message: Type.String() }),
          end: RowsEndEventJson,
        }),
      ),
    },
    404,
  ),
}
const GET_LINES_OF_COMMIT = {
  ...GET_LINES,
  operationId: 'getLogLinesOfCommit',
  summary: 'Read lines of the log of the newest build of a commit',
  params: CommitPath,
}
const SEARCH = {
  operationId: 'searchLog',
  tags: ['logs'],
  summary: 'Search a log',
  params: IdPath,
  querystring: SearchQuery,
  response: answers({ 200: json('The lines that have the text', LogSearchJson) }, 404),
}
const SEARCH_OF_COMMIT = {
  ...SEARCH,
  operationId: 'searchLogOfCommit',
  summary: 'Search the log of the newest build of a commit',
  params: CommitPath,
}

export interface LinesOptions {
  parts: FollowParts
  streams: Streams
  indexes: LineIndexes
  /** New contents of the head of a build's page, for a reader who may build or not. Called once the log is indexed. */
  head: (build: Build, mayBuild: boolean) => Promise<string>
}

/**
 * GET /logs/{id | owner/repo@sha}/lines: rows of a log as JSON, or from one row on as an event stream; and
 * GET /logs/{id | owner/repo@sha}/search.
 */
export async function linesRoute(app: FastifyInstance, options: LinesOptions): Promise<void> {
  const { parts, streams, indexes } = options

  const getLines = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    const index = indexes.of(build.id)
    const head = (now: Build) => options.head(now, mayUse(request.identity, build.repository, 'build'))
    if (preferredFormat(request.headers.accept, ['json', 'events']) === 'events') {
      // A browser that reconnects repeats the original URL, and sends its position in this header.
      const last = request.headers['last-event-id']
      const from =
        typeof last === 'string' && last !== ''
          ? Number(parseValue('Last-Event-ID', From, last))
          : (request.query as Static<typeof LinesQuery>).from
      await streams.send(reply, 'text/event-stream', (signal) =>
        liveRows(parts, build, index, { from, signal, head }),
      )
      return reply
    }
    return await linesNow(build, index, request, head)
  }

  /** The rows as they are now. */
  const linesNow = async (build: Build, index: LineIndex, request: FastifyRequest, head: Head) => {
    const { from, to = from + MAX_ROWS - 1, format } = request.query as Static<typeof LinesQuery>
    if (to < from) throw new ConveyorError('invalid', 'to must not be smaller than from')
    await index.update()
    const ended = isEnded(build.state)
    const range = { from, to: Math.min(to, from + MAX_ROWS - 1), ended, maxBytes: MAX_BYTES }
    const rows = await readRows(parts.logs, build.id, index, range)
    const total = index.rows + (ended && index.isCut ? 1 : 0)
    const isComplete = await isLogComplete(parts, build, index.size)
    const common = { from, next: from + rows.length, total, ended: isComplete }
    if (format !== 'html') return { ...common, lines: await inTurns(rows, (row) => lineJson(row, index)) }
    const html = (await inTurns(rows, rowRenderer(index))).join('')
    const shown = { html, steps: index.steps.map((step) => stepView(step, ended)) }
    return { ...common, ...shown, state: build.state, head: await head(build) }
  }

  const search = async (request: FastifyRequest, reply: FastifyReply) => {
    const { q: text, from, case: caseSensitive } = request.query as Static<typeof SearchQuery>
    const build = await findBuild(parts.store, request)
    if (text === '' || Buffer.byteLength(text) > MAX_QUERY || /[\r\n]/.test(text)) {
      throw new ConveyorError('invalid', `q must be a text of 1 to ${MAX_QUERY} bytes, without line breaks`)
    }
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    const index = indexes.of(build.id)
    const { rows, total } = await searchLog(parts.logs, build.id, {
      text,
      caseSensitive,
      from: index.place(from),
      firstRow: from,
      limit: MAX_HITS,
      signal: gone.signal,
    }).catch((error: unknown) => {
      if (gone.signal.aborted) return { rows: [], total: 0 } // nobody reads it
      throw error
    })
    return { q: text, from, total, lines: rows }
  }

  const stream = { exposeHeadRoute: false, config: { scope: 'read' } } as const
  app.get('/logs/:key/lines', { ...stream, schema: GET_LINES }, getLines)
  app.get('/logs/:owner/:name/lines', { ...stream, schema: GET_LINES_OF_COMMIT }, getLines)
  app.get('/logs/:key/search', { config: { scope: 'read' }, schema: SEARCH }, search)
  app.get('/logs/:owner/:name/search', { config: { scope: 'read' }, schema: SEARCH_OF_COMMIT }, search)
}

type Head = (build: Build) => Promise<string>
