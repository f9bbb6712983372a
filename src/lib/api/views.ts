import type { Artifact, Build } from '../core/build.ts'
import type { ArtifactJson, BuildJson } from './build.ts'

export function buildJson(build: Build, image: string | null, baseUrl: string): BuildJson {
  const first = (kind: 'branch' | 'tag') => build.refs.find((ref) => ref.kind === kind)?.name ?? null
  return {
    id: build.id,
    repository: build.repository,
    branch: first('branch'),
    tag: first('tag'),
    refs: build.refs.map(({ kind, name }) => ({ kind, name })),
    sha: build.sha,
    commit: build.commit,
    source: build.source,
    ...(build.reason !== undefined && { reason: build.reason }),
    ...(build.fork && {
      fork: {
        pull: build.fork.pull,
        repository: build.fork.repository,
        approved_by: build.fork.approvedBy,
      },
    }),
    state: build.state,
    error: build.error,
    error_kind: build.errorKind,
    ...(build.cancel && { cancel: build.cancel }),
    ...(build.supersededBy && { superseded_by: build.supersededBy }),
    image,
    ...(build.withheld && { withheld: build.withheld }),
    url: `${baseUrl}/builds/${build.id}`,
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
