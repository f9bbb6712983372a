import type { BuildEndedJson, ImagePushedJson } from '../api/notification.ts'
import { artifactJson, buildJson } from '../api/views.ts'
import type { Artifact, Build } from '../core/build.ts'
import { splitReference } from '../registry/image-name.ts'
import type { NewNotification, Notification } from '../store/notifications.ts'
import type { NotifyTarget } from './target.ts'

/** A build that has ended; `shas` are the commits that its image was published for. */
export interface EndedBuild {
  build: Build
  /** Null unless it succeeded. */
  artifact: Artifact | null
  shas: string[]
}

/** Tags that a target is told of: nobody needs more, and a build may have any number of refs. */
export const MOST_TAGS = 100

/** What these targets get for a build that has ended, and of how many tags they are not told. */
export function notificationsFor(
  artifact: Pick<Artifact, 'tags'> | null,
  targets: readonly NotifyTarget[],
): { notifications: NewNotification[]; leftOut: number } {
  const tags = artifact?.tags ?? []
  const notifications = targets.flatMap(({ key, url, format }): NewNotification[] => {
    const common = { target: key, origin: url.origin, format }
    if (format === 'conveyor') return [{ ...common, tag: null }]
    return tags.slice(0, MOST_TAGS).map((tag) => ({ ...common, tag: tagOf(tag) }))
  })
  const leftOut = targets.some(({ format }) => format === 'dockerhub') ? tags.length - MOST_TAGS : 0
  return { notifications, leftOut: Math.max(0, leftOut) }
}

/** The body of a notification. @param sentAt now */
export function payloadOf(
  { id, format, tag }: Pick<Notification, 'id' | 'format' | 'tag'>,
  { build, artifact, shas }: EndedBuild,
  { baseUrl, sentAt }: { baseUrl: string; sentAt: Date },
): BuildEndedJson | ImagePushedJson {
  if (format === 'dockerhub' && artifact) return imagePushed(build, artifact, tag ?? '')
  return {
    event: 'build_ended',
    id,
    sent_at: sentAt.toISOString(),
    build: buildJson(build, artifact?.image ?? null, baseUrl),
    artifact: artifact && artifactJson(artifact, shas),
  }
}

function imagePushed(build: Build, artifact: Artifact, tag: string): ImagePushedJson {
  const image = splitReference(artifact.image).name
  const [host = '', ...path] = image.split('/')
  const name = path.at(-1) ?? image
  const namespace = path.slice(0, -1).join('/')
  const seconds = (iso: string) => Math.floor(Date.parse(iso) / 1000)
  return {
    push_data: {
      pushed_at: seconds(build.completedAt ?? artifact.createdAt),
      pusher: build.commit?.login ?? (build.commit?.author || 'conveyor'),
      tag,
    },
    repository: {
      ...{
        name,
        namespace,
        owner: namespace,
        repo_name: image,
        repo_url: `https://${host}/${path.join('/')}`,
      },
      ...{ description: '', full_description: '', dockerfile: '', comment_count: 0, star_count: 0 },
      ...{ is_official: false, is_private: true, is_trusted: true, status: 'Active' },
      date_created: seconds(build.createdAt),
    },
  }
}

/** `main` of `registry.example.com/acme/web:main`. */
function tagOf(name: string): string {
  return name.slice(name.lastIndexOf(':') + 1)
}
