import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { BuildJson, RetryOrderJson } from '../../api/build.ts'
import { buildJson } from '../../api/views.ts'
import { notAllowed } from '../../core/allowed-repositories.ts'
import { type Build, isEnded, shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { about } from '../../core/log.ts'
import { cancelBuild } from '../../pipeline/control/cancel.ts'
import { retryBuild } from '../../pipeline/control/retry.ts'
import { prefersHtml } from '../accept.ts'
import { imageOf } from '../logs/follow.ts'
import { findBuild } from '../lookup.ts'
import type { ServerOptions } from '../options.ts'
import { sendProblem } from '../problems.ts'
import { answers, json, LOCATION } from './answers.ts'
import { CommitPath, IdPath } from './parameters.ts'

const PAGE = { description: 'To a form of a page: back to the page of the build', headers: LOCATION }

const CANCEL = {
  operationId: 'cancelBuild',
  tags: ['builds'],
  summary: 'Cancel a build',
  description:
    'A pending build ends at once. A building one is stopped within about a second, and then ends as `cancelled`. Once its tags are being moved, it can no longer be cancelled.',
  params: IdPath,
  response: answers(
    {
      200: { ...json('The build, which has ended', BuildJson), headers: LOCATION },
      202: { ...json('The build, which is being stopped', BuildJson), headers: LOCATION },
      303: PAGE,
    },
    404,
    409,
    413,
  ),
}
const CANCEL_OF_COMMIT = {
  ...CANCEL,
  operationId: 'cancelBuildOfCommit',
  summary: 'Cancel the newest build of a commit',
  params: CommitPath,
}
const RETRY = {
  operationId: 'retryBuild',
  tags: ['builds'],
  summary: 'Build a commit again',
  description:
    'A new build of the same commit, for the same branches and git tags, after the build has ended. Tags that belong to newer pushes by now stay where they are. The body may be absent, JSON, or a form.',
  params: IdPath,
  body: RetryOrderJson,
  response: answers(
    {
      200: {
        ...json('A build of this commit that was requested at the same moment', BuildJson),
        headers: LOCATION,
      },
      201: { ...json('The new build', BuildJson), headers: LOCATION },
      303: PAGE,
    },
    404,
    409,
    413,
  ),
}
const RETRY_OF_COMMIT = {
  ...RETRY,
  operationId: 'retryBuildOfCommit',
  summary: 'Build a commit again, after its newest build',
  params: CommitPath,
}

/** POST /builds/{id | owner/repo@sha}/cancel and …/retry: for programs, and for the forms of the pages. */
export async function controlRoutes(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const { store, log } = options
  app.removeAllContentTypeParsers()
  // As for POST /builds, whatever the content type: `curl -d` declares its body a form.
  app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: FastifyRequest, text: string) => text)
  const route = { bodyLimit: 4096, config: { scope: 'build' } } as const

  const answer = async (request: FastifyRequest, reply: FastifyReply, status: number, build: Build) => {
    const base = options.baseUrl()
    const url = `${base}/builds/${build.id}`
    if (prefersHtml(request.headers.accept)) {
      // On the host that the browser uses: a page's policy forbids that a form leads to another one.
      return reply.header('location', `${app.site().path}/builds/${build.id}`).code(303).send()
    }
    reply.header('location', url)
    return reply.code(status).send(buildJson(build, await imageOf(store, build), base))
  }

  const cancel = async (request: FastifyRequest, reply: FastifyReply) => {
    const found = await findBuild(store, request)
    const by = request.identity.name || 'API'
    const build = await cancelBuild(found.id, by, options)
    log(`api: build ${build.id} of ${shortName(build)} cancelled by ${build.cancel?.by ?? by}`, about(build))
    return answer(request, reply, isEnded(build.state) ? 200 : 202, build)
  }
  app.post('/builds/:key/cancel', { ...route, schema: CANCEL }, cancel)
  app.post('/builds/:owner/:name/cancel', { ...route, schema: CANCEL_OF_COMMIT }, cancel)

  const retry = async (request: FastifyRequest, reply: FastifyReply) => {
    const found = await findBuild(store, request)
    const { cache } = parseRetryBody(typeof request.body === 'string' ? request.body : '')
    if (options.isAllowed?.(found.repository) === false) {
      return sendProblem(reply, 403, 'forbidden', notAllowed(found.repository))
    }
    const { build, outcome } = await retryBuild(found.id, { cache }, options)
    const by = request.identity.name || 'API'
    log(
      `api: build ${build.id} of ${shortName(build)} (${outcome}), a retry of ${found.id} by ${by}`,
      about(build),
    )
    return answer(request, reply, outcome === 'created' ? 201 : 200, build)
  }
  app.post('/builds/:key/retry', { ...route, schema: RETRY }, retry)
  app.post('/builds/:owner/:name/retry', { ...route, schema: RETRY_OF_COMMIT }, retry)
}

const HINT = 'Send nothing, or a JSON object with `cache` (true or false)'

/** An optional `cache`, in JSON or as a form. @throws ConveyorError `invalid` */
function parseRetryBody(text: string): { cache?: boolean } {
  const given = text.trimStart().startsWith('{') ? parseJson(text) : new URLSearchParams(text.trim())
  let result: { cache?: boolean } = {}
  for (const [key, value] of given) {
    if (key !== 'cache') throw invalid(`unknown key ${JSON.stringify(key.slice(0, 60))}`, key.slice(0, 60))
    if (value === null) continue
    if (value !== true && value !== false && value !== 'true' && value !== 'false')
      throw invalid('cache must be true or false', 'cache')
    result = { cache: value === true || value === 'true' }
  }
  return result
}

function parseJson(text: string): [string, unknown][] {
  try {
    return Object.entries(JSON.parse(text) as object)
  } catch {
    throw invalid('the body is not valid JSON')
  }
}

function invalid(message: string, field?: string): ConveyorError {
  return new ConveyorError('invalid', message, { hint: HINT, field })
}
