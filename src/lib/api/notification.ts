import { ArtifactJson, BuildJson } from './build.ts'
import { named, nullable, type Static, Type } from './type.ts'

const time = (description: string) => Type.String({ format: 'date-time', description })

/** A webhook that was sent, or is to be. */
export const NotificationJson = named('Notification', {
  id: Type.String({ description: 'As in X-Conveyor-Delivery; the same for all tries' }),
  build: Type.String({ description: 'Id of the build that it is about' }),
  origin: Type.String({
    description: 'Scheme, host and port of the URL; the rest may contain a password',
    examples: ['https://deploy.example.com'],
  }),
  format: Type.Enum(['conveyor', 'dockerhub'], { type: 'string' }),
  tag: nullable(
    Type.String({
      description: 'The tag that it is about; null if it is about the build',
      examples: ['main'],
    }),
  ),
  state: Type.Enum(['pending', 'delivered', 'failed'], {
    type: 'string',
    description: '`pending`: it is sent at `due_at`. `failed`: no try is left.',
  }),
  attempts: Type.Integer({ minimum: 0, description: 'How many times it was sent' }),
  due_at: nullable(time('When it is sent next; null unless it is pending')),
  status: nullable(Type.Integer({ description: 'HTTP status of the last answer', examples: [200] })),
  answer: nullable(Type.String({ description: 'The beginning of that answer, at most 1 kB' })),
  error: nullable(Type.String({ description: 'Why the last try failed; null if it did not' })),
  took_ms: nullable(Type.Integer({ minimum: 0, description: 'How long the last try took' })),
  created_at: time('When the build had ended'),
  attempted_at: nullable(time('When the last try began')),
})
export type NotificationJson = Static<typeof NotificationJson>

export const NotificationListJson = named('NotificationList', {
  notifications: Type.Array(NotificationJson, { description: 'In the order of the URLs' }),
})
export type NotificationListJson = Static<typeof NotificationListJson>

/** The body of a webhook in our own format. */
export const BuildEndedJson = named('BuildEnded', {
  event: Type.Literal('build_ended'),
  id: Type.String({ description: 'As in X-Conveyor-Delivery' }),
  sent_at: time('When this try began'),
  build: BuildJson,
  artifact: nullable(ArtifactJson),
})
export type BuildEndedJson = Static<typeof BuildEndedJson>

/** The body of a webhook in Docker Hub's format: https://docs.docker.com/docker-hub/repos/manage/webhooks/ */
export const ImagePushedJson = named('ImagePushed', {
  push_data: Type.Object(
    {
      pushed_at: Type.Integer({ description: 'Seconds since 1970' }),
      pusher: Type.String({ description: 'Account or name of the author of the commit' }),
      tag: Type.String({ examples: ['main'] }),
    },
    { additionalProperties: false },
  ),
  repository: Type.Object(
    {
      name: Type.String({ examples: ['web'] }),
      namespace: Type.String({ examples: ['acme'] }),
      owner: Type.String({ examples: ['acme'] }),
      repo_name: Type.String({
        description: 'With the registry, so that `docker pull` takes it',
        examples: ['registry.example.com/acme/web'],
      }),
      repo_url: Type.String({ format: 'uri' }),
      description: Type.String(),
      full_description: Type.String(),
      dockerfile: Type.String(),
      comment_count: Type.Integer(),
      star_count: Type.Integer(),
      is_official: Type.Boolean(),
      is_private: Type.Boolean(),
      is_trusted: Type.Boolean(),
      status: Type.String({ examples: ['Active'] }),
      date_created: Type.Integer({ description: 'Seconds since 1970' }),
    },
    { additionalProperties: false },
  ),
})
export type ImagePushedJson = Static<typeof ImagePushedJson>
