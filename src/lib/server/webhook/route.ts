import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { notAllowed } from '../../core/allowed-repositories.ts'
import { shortName } from '../../core/build.ts'
import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { parseWebhook, webhookBody } from '../../forge/github/webhook.ts'
import { requestBuild } from '../../pipeline/accept.ts'
import type { ServerOptions } from '../options.ts'
import { describeError, refusalStatus, sendError, sendProblem } from '../problems.ts'
import { BodySpool, NoRoom, type SpooledBody } from './spooled-body.ts'
import { asForgeHasIt } from './unsigned-push.ts'

const WEBHOOK_PATH = '/webhooks/github'

const NO_ROOM = 'Too many webhooks are on their way here that have not come to their end'

const FIX_SECRET = 'Give the webhook on GitHub the same secret as Conveyor (GITHUB_SECRET)'

/** People point hooks at any path of a server: whatever names a GitHub event is one. Null for what does not. */
export function rewriteWebhook(request: IncomingMessage): string | null {
  const isWebhook = request.method === 'POST' && request.headers['x-github-event'] !== undefined
  return isWebhook ? WEBHOOK_PATH : null
}

/**
 * POST / and /webhooks/github (and any other path with an X-GitHub-Event header). Answers 202 with the
 * build, 200 with the reason why a delivery is ignored, 401 for a bad signature, 400 for a bad payload,
 * 413 for one that is too large, and 503 when the build could not be accepted, so that GitHub lists the
 * delivery as failed and somebody can send it again.
 */
export async function webhookRoute(app: FastifyInstance, options: ServerOptions): Promise<void> {
  app.removeAllContentTypeParsers()
  const spool = new BodySpool({ secret: options.githubSecret, dir: options.spoolDir ?? tmpdir() })
  // The body is read by the handler, as it needs the response, too.
  app.addContentTypeParser('*', async () => undefined)

  app.setErrorHandler((error, request, reply) => {
    // Nobody hears the answer.
    if (request.raw.destroyed && !request.raw.complete) return reply.code(400).send()
    // The rest of the body is thrown away: most senders read the answer only when they have sent all.
    request.raw.resume()
    if (error instanceof NoRoom) {
      return sendProblem(reply, 503, 'unavailable', NO_ROOM, 'Redeliver it from GitHub')
    }
    const refusal = refusalStatus(error)
    if (refusal === 413) return sendError(reply, error)
    if (refusal !== null) return sendProblem(reply, 400, 'invalid', (error as Error).message)
    const problem = toConveyorError(error, 'the webhook could not be handled')
    if (problem.kind === 'invalid') return sendError(reply, problem)
    options.log(`webhook ${header(request, 'x-github-delivery') ?? ''}: ${describeError(error)}`)
    return sendProblem(
      reply,
      503,
      'unavailable',
      'The build could not be accepted',
      'Redeliver it from GitHub',
    )
  })

  const route = {
    config: { public: true },
    // Before the body is read: who does not sign does not get 25 MB of memory.
    onRequest: async (request: FastifyRequest, reply: FastifyReply) => {
      if (options.githubSecret !== null && header(request, 'x-hub-signature-256') === undefined) {
        const old = header(request, 'x-hub-signature') !== undefined
        const message = old
          ? 'the webhook is signed with SHA-1 only (X-Hub-Signature), which is not safe; X-Hub-Signature-256 is needed'
          : 'the webhook is not signed: it has no X-Hub-Signature-256 header'
        return sendProblem(reply, 401, 'unauthorized', message, FIX_SECRET)
      }
    },
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      const body = await spool.receive(request.raw, reply.raw)
      if (options.githubSecret !== null && !body.isSignedBy(header(request, 'x-hub-signature-256'))) {
        const message = 'X-Hub-Signature-256 does not match the body'
        return sendProblem(reply, 401, 'unauthorized', message, FIX_SECRET)
      }
      return handleDelivery(request, reply, body, options)
    },
  }
  app.post('/', route)
  app.post(WEBHOOK_PATH, route)
}

async function handleDelivery(
  request: FastifyRequest,
  reply: FastifyReply,
  body: SpooledBody,
  options: ServerOptions,
): Promise<FastifyReply> {
  const event = identifier(request, 'x-github-event')
  const delivery = identifier(request, 'x-github-delivery')
  const payload = await body.read((bytes) => webhookBody(header(request, 'content-type'), bytes))
  const parsed = parseWebhook(event, delivery, payload)
  if (parsed.kind === 'ignored') return reply.code(200).send({ ignored: parsed.reason })

  const { repository } = parsed.request
  if (options.isAllowed?.(repository) === false)
    return reply.code(200).send({ ignored: notAllowed(repository) })
  const signed = options.githubSecret !== null
  const wanted = signed ? parsed.request : await asForgeHasIt(parsed.request, options)
  if ('ignored' in wanted) return reply.code(200).send(wanted)
  const { build, outcome } = await requestBuild(wanted, options)
  options.log(`webhook ${delivery}: ${shortName(build)} is build ${build.id} (${outcome})`)
  const base = options.baseUrl()
  return reply.code(202).send({
    id: build.id,
    url: `${base}/builds/${build.id}`,
    log: `${base}/logs/${build.id}`,
    outcome,
  })
}

function identifier(request: FastifyRequest, name: string): string {
  const value = header(request, name)
  if (value === undefined || !/^[\x21-\x7e]{1,200}$/.test(value)) {
    throw new ConveyorError('invalid', `the ${name} header is ${value ? 'malformed' : 'missing'}`, {
      hint: 'Only GitHub webhooks are accepted here; the API is at /builds',
    })
  }
  return value
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value[0] : value
}
