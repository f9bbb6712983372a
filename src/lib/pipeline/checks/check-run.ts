import { type Artifact, type Build, isEnded } from '../../core/build.ts'
import { type Phase, type SourceExcerpt, summaryOf, type Timeline } from '../../core/timeline.ts'
import type { CheckAction, CheckRun } from '../../forge/forge.ts'
import { missedLine } from '../timeline/cache-misses.ts'
import { annotationsOf } from './annotations.ts'
import { block, code, table } from './markdown.ts'

/** What a check run tells about a build. */
export interface CheckedBuild {
  build: Build
  /** One sentence about its state. */
  title: string
  /** Of the build's page. */
  detailsUrl: string
  /** Null if there is none (yet). */
  timeline: Timeline | null
  artifact: Artifact | null
}

/** The identifiers of buttons. */
export const ACTIONS = { cancel: 'cancel', withoutCache: 'build-without-cache' } as const

const CANCEL: CheckAction = { identifier: ACTIONS.cancel, label: 'Cancel', description: 'Cancel this build' }
const WITHOUT_CACHE: CheckAction = {
  identifier: ACTIONS.withoutCache,
  label: 'Build without cache',
  description: 'Build this commit again from scratch',
}

/** A check run for the state that a build is in. */
export function checkRunOf(checked: CheckedBuild): CheckRun {
  const { build, title, detailsUrl, timeline } = checked
  const hasEnded = isEnded(build.state)
  return {
    repository: build.repository,
    sha: build.sha,
    buildId: build.id,
    status: hasEnded ? 'completed' : build.state === 'pending' ? 'queued' : 'in_progress',
    conclusion: conclusionOf(build),
    startedAt: build.startedAt,
    completedAt: build.completedAt,
    detailsUrl,
    title,
    summary: hasEnded
      ? summary(checked)
      : `[The build's page](${detailsUrl}) shows the log as it is written.`,
    annotations: hasEnded && timeline ? annotationsOf(build, timeline) : [],
    actions: hasEnded ? [WITHOUT_CACHE] : [CANCEL],
  }
}

function conclusionOf({ state, errorKind, neutral }: Build): CheckRun['conclusion'] {
  if (neutral) return 'neutral'
  switch (state) {
    case 'pending':
    case 'building':
      return null
    case 'succeeded':
      return 'success'
    case 'cancelled':
      return 'cancelled'
    case 'failed':
      return errorKind === 'timeout' ? 'timed_out' : 'failure'
  }
}

function summary({ build, artifact, timeline, detailsUrl }: CheckedBuild): string {
  const parts = [
    ...(build.error === null ? [] : [block([build.error])]),
    ...(timeline?.excerpt ? [excerpt(timeline.excerpt)] : []),
    ...(artifact ? [image(artifact)] : []),
    ...(timeline ? why(build, timeline) : []),
    ...(timeline && timeline.phases.length > 0 ? [times(timeline.phases)] : []),
    `[Log and details](${detailsUrl})`,
  ]
  return parts.join('\n\n')
}

function image({ image, tags }: Artifact): string {
  const names = tags.map((tag) => code(tag.slice(tag.lastIndexOf(':') + 1)))
  return [
    block([`docker pull ${image}`]),
    ...(names.length > 0 ? [`${names.length === 1 ? 'Tag' : 'Tags'}: ${names.join(', ')}`] : []),
  ].join('\n\n')
}

/** As `docker build` prints it. */
function excerpt({ file, lines, more }: SourceExcerpt): string {
  const shown = lines.map(
    ({ number, text, failed }) => `${failed ? '>>>' : '   '} ${`${number}`.padStart(4)} | ${text}`,
  )
  return block([file, ...shown, ...(more > 0 ? ['…'] : [])])
}

/** How much came from the cache, and why the rest did not. */
function why({ state }: Build, timeline: Timeline): string[] {
  const { steps, cached, reused } = summaryOf(timeline)
  if (state === 'succeeded' && reused)
    return ['Nothing that the image is built from has changed: an earlier image was reused.']
  if (steps === 0) return []
  const { missed } = timeline
  return [
    `${cached} of ${steps} ${steps === 1 ? 'step was' : 'steps were'} cached.`,
    ...(missed ? [code(missedLine(missed))] : []),
  ]
}

function times(phases: readonly Phase[]): string {
  const rows = phases.map(({ name, ms, note }) => [
    name,
    `${(ms / 1000).toFixed(2)} s`,
    note === undefined ? '' : code(note),
  ])
  return table(['Phase', 'Time', ''], rows)
}
