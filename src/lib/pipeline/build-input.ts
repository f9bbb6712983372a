import type { BuildInput } from '../builder/builder.ts'
import { type Build, shaTag } from '../core/build.ts'
import { isPushed } from '../core/validate.ts'
import { copiedBeforeRun } from '../dockerfile/copied-before-run.ts'
import { dockerfileText } from '../dockerfile/read.ts'
import type { Commit } from '../source/source.ts'
import { inOwnTurn } from '../util/own-turn.ts'
import { inputsKey } from './cache/inputs-key.ts'
import type { BuildParts, PreparedBuild } from './parts.ts'
import { cacheKeyOf } from './pulls/forks.ts'

/** A commit to build, and what its image's labels and caches are named after. */
interface Buildable extends Pick<PreparedBuild, 'imageName' | 'commit' | 'context'> {
  build: Pick<Build, 'repository' | 'sha' | 'refs' | 'cache' | 'fork'>
}

interface BuildInputOptions {
  /** Images to import the cache from, best first. */
  cacheFrom: string[]
  push: boolean
  signal: AbortSignal
  /** Text of the Dockerfile, if it is being read already; see dockerfileText. */
  dockerfile?: Promise<string | null>
  /** What must be known before BuildKit reads the Dockerfile, and so resolves images. */
  before?: Promise<unknown>
}

/** Everything that the builder needs to build a commit. */
export async function buildInput(
  { build, imageName, commit, context }: Buildable,
  parts: BuildParts,
  { cacheFrom, push, signal, dockerfile = dockerfileText(context, signal), before }: BuildInputOptions,
): Promise<BuildInput> {
  const { repository } = build
  const settings = parts.settings(repository)
  // Without the cache, any step may produce something else from the same files.
  const key = build.cache ? inputsKey(context, dockerfile, settings, parts, signal) : null
  const basis = Promise.all([key, before]).then(([known]) => known)
  const beforeRun = dockerfile.then((text) => inOwnTurn(() => copiedBeforeRun(text)))
  for (const pending of [basis, beforeRun]) pending.catch(() => {}) // awaited once BuildKit asks for the files
  return {
    context,
    reference: `${imageName}:${shaTag(build)}`,
    push,
    cacheKey: cacheKeyOf(build),
    cacheNamespace: parts.cacheNamespace(repository),
    sync: { records: parts.store.syncs, basis, copiedBeforeRun: beforeRun },
    cache: build.cache,
    cacheFrom,
    ...(build.fork && { isolated: true }),
    labels: labels(build, commit, parts.sourceUrl(repository)),
    ...settings,
    buildArgs: { ...(await parts.proxies()).variables, ...settings.buildArgs },
    secrets: await parts.secrets(repository),
    epoch: Math.floor(Date.parse(commit.committedAt) / 1000),
  }
}

/**
 * The build whose layers the builder exports to the registry, for workers that have no cache of the repository: that of
 * the default branch, from which most builds can import. Null for other branches, unless the registry has no cache yet.
 */
export async function cacheInput(
  prepared: PreparedBuild,
  parts: BuildParts,
  signal: AbortSignal,
): Promise<BuildInput | null> {
  const { build, imageName, commit } = prepared
  const { builder, registry, source } = parts
  const main = build.defaultBranch
  if (main && !build.refs.some(({ kind, name }) => kind === 'branch' && name === main)) {
    const tag = await builder.cacheTag()
    if (tag && (await registry.head(imageName, tag, signal)) !== null) return null
  }
  const context = await source.context(commit, { signal })
  const input = await buildInput({ ...prepared, context }, parts, { cacheFrom: [], push: false, signal })
  // BuildKit keeps a separate copy of its files, so that the next build does not wait until they are released.
  return { ...input, cacheKey: `${input.cacheKey}#cache` }
}

/** Labels of the OCI image spec (annotations.md). They depend on the commit alone: same sha, same labels. */
function labels(build: Pick<Build, 'sha' | 'refs'>, commit: Commit, source: string): Record<string, string> {
  // The branch of a merge queue is gone by the time its image serves the branch that it was merged into.
  const ref = build.refs.find(isPushed)
  return {
    'org.opencontainers.image.source': source,
    'org.opencontainers.image.revision': build.sha,
    'org.opencontainers.image.created': commit.committedAt,
    ...(ref ? { 'org.opencontainers.image.ref.name': ref.name } : {}),
  }
}
