import type { Artifact, Build, BuildState, Withheld } from '../core/build.ts'
import type { ErrorKind } from '../core/errors.ts'

/** A build as the API shows it. Times are RFC 3339 or null. */
export interface BuildJson {
  id: string
  repository: string
  /** The first branch that this build was requested for. */
  branch: string | null
  /** The first git tag that this build was requested for. */
  tag: string | null
  /** All branches and git tags that it was requested for, oldest first. */
  refs: { kind: 'branch' | 'tag'; name: string }[]
  sha: string
  state: BuildState
  error: string | null
  error_kind: ErrorKind | null
  /** `registry/repo@sha256:...` once the build succeeded. */
  image: string | null
  /** Requested tags that are not moved, and why; absent if all are. */
  withheld?: Withheld[]
  /** URL of its log. */
  log: string
  created_at: string
  started_at: string | null
  completed_at: string | null
}

export interface ArtifactJson {
  id: string
  image: string
  tags: string[]
  /** All commits that this image was published for: commits with the same content share an image. */
  shas: string[]
  build: { id: string }
}

/** Data of a `log` event: the bytes at `offset`, in base64. The event's id is the offset after them. */
export interface LogEventJson {
  offset: number
  bytes: string
}

/** Data of the final `end` event. */
export interface EndEventJson {
  state: BuildState
  image: string | null
  error: string | null
  error_kind: ErrorKind | null
}

export function buildJson(build: Build, image: string | null, baseUrl: string): BuildJson {
  const first = (kind: 'branch' | 'tag') => build.refs.find((ref) => ref.kind === kind)?.name ?? null
  return {
    id: build.id,
    repository: build.repository,
    branch: first('branch'),
    tag: first('tag'),
    refs: build.refs.map(({ kind, name }) => ({ kind, name })),
    sha: build.sha,
    state: build.state,
    error: build.error,
    error_kind: build.errorKind,
    image,
    ...(build.withheld && { withheld: build.withheld }),
    log: `${baseUrl}/logs/${build.id}`,
    created_at: build.createdAt,
    started_at: build.startedAt,
    completed_at: build.completedAt,
  }
}

export function artifactJson(artifact: Artifact, shas: string[]): ArtifactJson {
  return {
    id: artifact.id,
    image: artifact.image,
    tags: artifact.tags,
    shas,
    build: { id: artifact.buildId },
  }
}
