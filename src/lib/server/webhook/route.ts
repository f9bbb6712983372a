import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '../../api/problem.ts'
import { Type } from '../../api/type.ts'
import { DeliveryAcceptedJson, DeliveryDoneJson, DeliveryIgnoredJson } from '../../api/webhook.ts'
import { shortName } from '../../core/build.ts'
import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import { about } from '../../core/log.ts'
import type { NewIgnored } from '../../store/build-list.ts'
import { json, publicAnswers } from '../api/answers.ts'
import type { ServerOptions } from '../options.ts'
import { describeError, rejectionStatus, sendError, sendProblem } from '../problems.ts'
import { handleWebhook } from './handle.ts'
import { BodySpool, type SpooledBody, SpoolFull } from './spooled-body.ts'

const WEBHOOK_PATH = '/webhooks/github'

const TOO_MANY = 'Too many webhook deliveries are being received'
const REDELIVER = 'Redeliver it from GitHub'
const FIX_SECRET = 'Set the same secret for the webhook on GitHub and for Conveyor (GITHUB_SECRET)'

const DELIVER = {
  operationId: 'deliver',
  tags: ['webhooks'],
  summary: 'Deliver a webhook of GitHub',
  description:
    'Signed with the secret of the webhook, in X-Hub-Signature-256. Any other path accepts deliveries as well, by their header X-GitHub-Event.',
  headers: Type.Object({
    'x-github-event': Type.String({ description: 'What happened', examples: ['push'] }),
    'x-github-delivery': Type.String({ description: 'Unique id of the delivery; a redelivery repeats it' }),
    'x-hub-signature-256': Type.Optional(Type.String({ description: '`sha256=` and the HMAC of the body' })),
  }),
  response: publicAnswers(
    {
      200: json('Nothing is built', Type.Union([DeliveryIgnoredJson, DeliveryDoneJson])),
      202: json('The build of the push', DeliveryAcceptedJson),
      401: json('The signature is missing or wrong', Problem),
      503: json('The build could not be accepted: redeliver it', Problem),
    },
    400,
    413,
  ),
}

/** Routes any POST with an X-GitHub-Event header to the webhook, because hooks get pointed at any path. Null for others. */
export function rewriteWebhook(request: IncomingMessage): string | null {
  const isWebhook = request.method === 'POST' && request.headers['x-github-event'] !== undefined
  return isWebhook ? WEBHOOK_PATH : null
}

/**
 * POST / and /webhooks/github (and any other path with an X-GitHub-Event header). Responds 202 with the
 * build, 200 with what was done instead or why a delivery is ignored, 401 for a bad signature, 400 for a bad payload,
 * 413 for one that is too large, and 503 when the build could not be accepted, so that GitHub lists the
 * delivery as failed and it can be redelivered.
 */
export async function webhookRoute(app: FastifyInstance, options: ServerOptions): Promise<void> {
  app.removeAllContentTypeParsers()
  const { githubSecret: secret, webhooks } = options
  const signature = secret === null ? null : () => webhooks.signature(secret)
  const spool = new BodySpool({ signature, dir: options.spoolDir ?? tmpdir() })
  // The handler reads the body itself, because that needs the response.
  app.addContentTypeParser('*', async () => undefined)

  app.setErrorHandler((error, request, reply) => {
    // The client is gone.
    if (request.raw.destroyed && !request.raw.complete) return reply.code(400).send()
    // Discard the rest of the body: most clients read the response only after sending all of it.
    request.raw.resume()
    if (error instanceof SpoolFull) {
      return sendProblem(reply, 503, 'unavailable', TOO_MANY, REDELIVER)
    }
    const rejection = rejectionStatus(error)
    if (rejection === 413) return sendError(reply, error)
    if (rejection !== null) return sendProblem(reply, 400, 'invalid', (error as Error).message)
    const problem = toConveyorError(error, 'handling the webhook failed')
    if (problem.kind === 'invalid') return sendError(reply, problem)
    const delivery = header(request, 'x-github-delivery') ?? ''
    const fields = { delivery: delivery.slice(0, 200), request: request.id, level: 'error' } as const
    options.log(`webhook ${delivery}: ${describeError(error)}`, fields)
    return sendProblem(reply, 503, 'unavailable', 'The build could not be accepted', REDELIVER)
  })

  const route = {
    config: { public: true },
    // Before the body is read: unsigned requests must not cost 25 MB of memory.
    onRequest: async (request: FastifyRequest, reply: FastifyReply) => {
      if (options.githubSecret !== null && header(request, 'x-hub-signature-256') === undefined) {
        const isSha1 = header(request, 'x-hub-signature') !== undefined
        const message = isSha1
          ? 'the webhook is signed only with SHA-1 (X-Hub-Signature), which is insecure; X-Hub-Signature-256 is required'
          : 'the webhook is not signed: it has no X-Hub-Signature-256 header'
        return sendProblem(reply, 401, 'unauthorized', message, FIX_SECRET)
      }
    },
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      const body = await spool.receive(request.raw, reply.raw, request.ip)
      if (options.githubSecret !== null && !body.isSignedBy(header(request, 'x-hub-signature-256'))) {
        const message = 'X-Hub-Signature-256 does not match the body'
        return sendProblem(reply, 401, 'unauthorized', message, FIX_SECRET)
      }
      return handleDelivery(request, reply, body, options)
    },
  }
  app.post('/', { ...route, schema: { ...DELIVER, operationId: 'deliverToRoot' } })
  app.post(WEBHOOK_PATH, { ...route, schema: DELIVER })
}

async function handleDelivery(
  request: FastifyRequest,
  reply: FastifyReply,
  body: SpooledBody,
  options: ServerOptions,
): Promise<FastifyReply> {
  const event = identifier(request, 'x-github-event')
  const delivery = identifier(request, 'x-github-delivery')
  const contentType = header(request, 'content-type')
  const payload = await body.read((bytes) => options.webhooks.payload(event, contentType, bytes))
  const signed = options.githubSecret !== null
  const handled = await handleWebhook(options.webhooks.parse(event, delivery, payload), { signed, options })
  if ('ignored' in handled) {
    const reason = handled.ignored
    // Anyone can send unsigned ones, which would displace the others.
    if (signed && !handled.quiet)
      await record({ id: delivery, event, ...options.webhooks.about(payload), reason }, options)
    return reply.code(200).send({ ignored: reason })
  }
  if ('done' in handled) {
    options.log(`webhook ${delivery}: ${handled.done}`, { delivery, request: request.id })
    return reply.code(200).send(handled)
  }
  const { build, outcome } = handled
  const fields = { ...about(build), delivery, request: request.id }
  options.log(`webhook ${delivery}: build ${build.id} of ${shortName(build)} (${outcome})`, fields)
  const base = options.baseUrl()
  const accepted: DeliveryAcceptedJson = {
    id: build.id,
    url: `${base}/builds/${build.id}`,
    log: `${base}/logs/${build.id}`,
    outcome,
  }
  return reply.code(202).send(accepted)
}

/** Records a delivery that builds nothing. GitHub gets its answer even if that fails. */
async function record(delivery: NewIgnored, { store, log }: ServerOptions): Promise<void> {
  try {
    await store.ignored.add(delivery)
  } catch (error) {
    log(`webhook ${delivery.id}: could not record why nothing was built: ${describeError(error)}`)
  }
}

function identifier(request: FastifyRequest, name: string): string {
  const value = header(request, name)
  if (value === undefined || !/^[\x21-\x7e]{1,200}$/.test(value)) {
    throw new ConveyorError('invalid', `the ${name} header is ${value ? 'malformed' : 'missing'}`, {
      hint: 'This path accepts only GitHub webhooks; the API is at /builds',
    })
  }
  return value
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value[0] : value
}
