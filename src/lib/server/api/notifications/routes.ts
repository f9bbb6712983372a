import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { NotificationJson, NotificationListJson } from '../../../api/notification.ts'
import { Type } from '../../../api/type.ts'
import { shortName } from '../../../core/build.ts'
import { ConflictError, ConveyorError } from '../../../core/errors.ts'
import { about } from '../../../core/log.ts'
import type { Notification } from '../../../store/notifications.ts'
import { prefersHtml } from '../../accept.ts'
import { mayUse } from '../../access/identity.ts'
import { findBuild } from '../../lookup.ts'
import type { ServerOptions } from '../../options.ts'
import { answers, json, LOCATION } from '../answers.ts'
import { CommitPath, IdPath } from '../parameters.ts'

/** How many tries one that is sent again gets. */
const TRIES = 5

const LIST = {
  operationId: 'listNotifications',
  tags: ['builds'],
  summary: 'List the webhooks that were sent when a build ended',
  params: IdPath,
  response: answers({ 200: json('The webhooks, sent or to be sent', NotificationListJson) }, 404),
}
const LIST_OF_COMMIT = {
  ...LIST,
  operationId: 'listNotificationsOfCommit',
  summary: 'List the webhooks that were sent when the newest build of a commit ended',
  params: CommitPath,
}
const REDELIVER = {
  operationId: 'redeliverNotification',
  tags: ['builds'],
  summary: 'Send a webhook again',
  description: 'With the same id and what is known of the build now, to the URL that is configured now.',
  params: Type.Object({ key: Type.String({ description: 'Id of the webhook' }) }),
  response: answers(
    {
      202: json('It is sent within seconds', NotificationJson),
      303: { description: 'To a form of a page: back to the page of the build', headers: LOCATION },
    },
    404,
    409,
    413,
  ),
}

/** GET /builds/{id | owner/repo@sha}/notifications, POST /notifications/{key}/redeliver. */
export async function notificationsRoutes(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const { store, log } = options
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, async () => undefined)

  const list = async (request: FastifyRequest) => {
    const build = await findBuild(store, request)
    const notifications = await store.notifications.ofBuild(build.id)
    return { notifications: notifications.map(notificationJson) }
  }
  const read = { config: { scope: 'read' } } as const
  app.get('/builds/:key/notifications', { ...read, schema: LIST }, list)
  app.get('/builds/:owner/:name/notifications', { ...read, schema: LIST_OF_COMMIT }, list)

  app.post(
    '/notifications/:key/redeliver',
    { bodyLimit: 4096, config: { scope: 'build' }, schema: REDELIVER },
    async (request, reply: FastifyReply) => {
      const { key: id } = request.params as { key: string }
      const found = await store.notifications.get(id)
      const build = found && (await store.get(found.buildId))
      if (!found || !build || !mayUse(request.identity, build.repository)) {
        throw new ConveyorError('not_found', `webhook ${id.slice(0, 200)} not found`)
      }
      const again = await store.notifications.redeliver(found.id, TRIES)
      if (!again) throw new ConflictError(`webhook ${found.id} is already about to be sent`)
      const by = request.identity.name || 'API'
      log(`api: webhook about ${shortName(build)} to ${again.origin} is sent again for ${by}`, about(build))
      if (prefersHtml(request.headers.accept)) {
        return reply.header('location', `${app.site().path}/builds/${build.id}`).code(303).send()
      }
      return reply.code(202).send(notificationJson(again))
    },
  )
}

function notificationJson(one: Notification): NotificationJson {
  return {
    id: one.id,
    build: one.buildId,
    origin: one.origin,
    format: one.format,
    tag: one.tag,
    state: one.state,
    attempts: one.attempts,
    due_at: one.dueAt,
    status: one.status,
    answer: one.answer,
    error: one.error,
    took_ms: one.tookMs,
    created_at: one.createdAt,
    attempted_at: one.attemptedAt,
  }
}
