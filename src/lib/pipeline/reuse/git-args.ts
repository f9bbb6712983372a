import type { Build } from '../../core/build.ts'
import { isMergeQueue } from '../../core/validate.ts'
import { declaredArgs } from '../../dockerfile/declared-args.ts'
import { dockerfileText } from '../../dockerfile/read.ts'
import type { Commit, Context } from '../../source/source.ts'
import { inOwnTurn } from '../../util/own-turn.ts'
import type { BuildParts } from '../parts.ts'

/** The arguments that say which commit is built. SOURCE_DATE_EPOCH: https://reproducible-builds.org/specs/source-date-epoch/ */
const GIT_ARGS = ['GIT_SHA', 'GIT_BRANCH', 'GIT_TAG', 'SOURCE_DATE_EPOCH'] as const

/**
 * What a build runs with, where it is configured that Dockerfiles get the standard build arguments. Only those that the
 * Dockerfile declares are given, and so are part of the recipe: others would keep images from being reused for nothing.
 */
export async function withGitArgs(
  build: Pick<Build, 'repository' | 'sha' | 'refs'>,
  commit: Pick<Commit, 'committedAt'>,
  context: Pick<Context, 'dockerfileEntry' | 'read'>,
  parts: BuildParts,
  signal: AbortSignal,
): Promise<BuildParts> {
  if (!parts.settings(build.repository).gitArgs) return parts
  const text = await dockerfileText(context, signal)
  const declared = await inOwnTurn(() => declaredArgs(text, GIT_ARGS))
  const known = valuesOf(build, commit)
  const given = Object.fromEntries(
    declared.flatMap((name) => (known[name] === undefined ? [] : [[name, known[name]]])),
  )
  return {
    ...parts,
    settings(repository) {
      const settings = parts.settings(repository)
      return { ...settings, buildArgs: { ...given, ...settings.buildArgs } }
    },
  }
}

/** What there is no value for keeps its default in the Dockerfile. */
function valuesOf(
  { sha, refs }: Pick<Build, 'sha' | 'refs'>,
  { committedAt }: Pick<Commit, 'committedAt'>,
): Partial<Record<(typeof GIT_ARGS)[number], string>> {
  // Several refs may have come to share a build: the first one is what it was asked for.
  const branch = refs.find((ref) => ref.kind === 'branch' && !isMergeQueue(ref)) ?? refs.find(isMergeQueue)
  const tag = refs.find(({ kind }) => kind === 'tag')
  return {
    GIT_SHA: sha,
    ...(branch && { GIT_BRANCH: mergedInto(branch.name) }),
    ...(tag && { GIT_TAG: tag.name }),
    SOURCE_DATE_EPOCH: String(Math.floor(Date.parse(committedAt) / 1000)),
  }
}

/** The branch that a merge queue's branch is for, so that the image serves the merged commit, too. */
function mergedInto(branch: string): string {
  return /^gh-readonly-queue\/(.+)\/pr-\d+-[0-9a-f]+$/.exec(branch)?.[1] ?? branch
}
