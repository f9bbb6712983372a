import { BuildEndedJson, ImagePushedJson } from '../../../api/notification.ts'

const header = (name: string, description: string, example: string, required = true) => ({
  ...{ in: 'header', name, description, required, example },
  schema: { type: 'string' },
})

const parameters = (event: string) => [
  header('X-Conveyor-Event', 'What happened', event),
  header(
    'X-Conveyor-Delivery',
    'Id of the webhook; the same when it is sent again',
    '8e03978e-40d5-43dd-bc93-6894a57f9324',
  ),
  header(
    'X-Conveyor-Timestamp',
    'When it was sent, in seconds since 1970; with a secret',
    '1772366400',
    false,
  ),
  header(
    'X-Conveyor-Signature-256',
    '`sha256=` and the HMAC-SHA256, in hex, of the timestamp, a dot, and the body, under the secret',
    `sha256=${'44be4f29'.repeat(8)}`,
    false,
  ),
]

const RESPONSES = {
  '2XX': { description: 'Delivered; the body is not used' },
  410: { description: 'Not sent again' },
  default: { description: 'Sent again, up to four times within 71 minutes; `Retry-After` is respected' },
}

/** What the server sends to `--notify.url`, as OpenAPI's webhooks. */
export const WEBHOOKS = {
  buildEnded: {
    post: {
      operationId: 'buildEnded',
      tags: ['webhooks'],
      summary: 'A build has ended',
      description:
        'Sent for every build that succeeded, failed, or was cancelled, if `--notify.format` is conveyor. The order of webhooks is not that of builds.',
      parameters: parameters('build_ended'),
      requestBody: { required: true, content: { 'application/json': { schema: BuildEndedJson } } },
      responses: RESPONSES,
      security: [],
    },
  },
  imagePushed: {
    post: {
      operationId: 'imagePushed',
      tags: ['webhooks'],
      summary: 'A tag points to a new image',
      description:
        "Sent for each tag that a successful build moved, if `--notify.format` is dockerhub: as Docker Hub's webhooks, without `callback_url`.",
      parameters: parameters('image_pushed'),
      requestBody: { required: true, content: { 'application/json': { schema: ImagePushedJson } } },
      responses: RESPONSES,
      security: [],
    },
  },
}
