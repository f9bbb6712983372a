import type { Timeline } from '../core/timeline.ts'
import { BuildJson } from './build.ts'
import { named, nullable, type Static, Type } from './type.ts'

const time = (description: string) => Type.String({ format: 'date-time', description })
const count = (description: string) => Type.Integer({ minimum: 0, description })
const ms = Type.Number({ minimum: 0, description: 'Milliseconds' })
const STATES = ['running', 'done', 'cached', 'failed', 'cancelled']
const CHANGES = ['added', 'removed', 'changed', 'mode']
const digest = Type.String({ examples: [`sha256:${'44be4f29'.repeat(8)}`] })

const StepJson = named('Step', {
  number: count('As in the log: #5'),
  name: Type.String({ examples: ['[build 2/3] COPY . .'] }),
  digest: Type.String({ description: "BuildKit's digest of its definition" }),
  inputs: Type.Array(count('Number of a step'), { description: 'The steps whose results it uses' }),
  started_at: nullable(time("By BuildKit's clock")),
  completed_at: nullable(time('When its last part ended')),
  state: Type.Enum(STATES, { type: 'string' }),
  critical: Type.Boolean({
    description: 'Whether it is on the path that determined when the last step ended',
  }),
  error: nullable(Type.String()),
  warnings: Type.Array(
    named('StepWarning', {
      message: Type.String(),
      detail: Type.Array(Type.String()),
      url: nullable(Type.String()),
      file: nullable(Type.String()),
      line: nullable(count('Line of the file')),
    }),
  ),
})

const MissCauseJson = named(
  'MissCause',
  {
    kind: Type.Enum(
      [
        'first_build',
        'file',
        'base',
        'instruction',
        'setting',
        'no_cache_requested',
        'not_in_cache',
        'unknown',
      ],
      { type: 'string' },
    ),
    path: Type.Optional(Type.String({ description: 'Of a `file` in the build context' })),
    change: Type.Optional(Type.Enum(CHANGES, { type: 'string' })),
    name: Type.Optional(Type.String({ description: 'Of a `base` image or a `setting`, never its value' })),
    before: Type.Optional(
      nullable(Type.String({ description: 'Digest of a `base`, or `instruction`; null: it is new' })),
    ),
    after: Type.Optional(Type.String()),
  },
  {
    description:
      '`not_in_cache`: nothing changed, but the result was pruned, or was never on this machine; `unknown`: there is no evidence',
  },
)

const ExcerptJson = named(
  'SourceExcerpt',
  {
    file: Type.String({ description: 'Path in the repository', examples: ['Dockerfile'] }),
    lines: Type.Array(
      named('SourceLine', {
        number: Type.Integer({ minimum: 1 }),
        text: Type.String(),
        failed: Type.Boolean({ description: 'Whether the error is about this line' }),
      }),
      { description: 'Consecutive, at most 15, each of at most 300 characters' },
    ),
    more: count('How many lines follow besides'),
  },
  { description: 'The lines of the Dockerfile that the build failed at, and those around them' },
)

/** Where the time of a build went. */
export const TimelineJson = named('Timeline', {
  build: Type.String({ description: 'Id of the build' }),
  attempt: count('The attempt that it describes'),
  phases: Type.Array(
    named('Phase', {
      name: Type.Enum(['queue', 'look up', 'fetch', 'context', 'build', 'push', 'tags'], { type: 'string' }),
      started_at: time('When it began'),
      ms,
      running: Type.Boolean({ description: 'Whether it has not ended yet' }),
      note: nullable(Type.String({ examples: ['3 of 4 steps cached'] })),
    }),
  ),
  steps: Type.Array(StepJson, {
    description: 'At most 500; empty if no image was built, or in a builder image',
  }),
  missed: nullable(
    named('Missed', {
      step: count('Number of the first step that was not cached'),
      name: Type.String(),
      causes: Type.Array(MissCauseJson, { description: 'At most ten' }),
      more: count('How many causes there are besides'),
      compared_with: nullable(
        named('ComparedBuild', { build: Type.String({ description: 'Its id' }), sha: Type.String() }),
      ),
    }),
  ),
  excerpt: nullable(ExcerptJson),
})
export type TimelineJson = Static<typeof TimelineJson>

const StepTimeJson = named('StepTime', {
  number: count('As in the log'),
  state: Type.Enum(STATES, { type: 'string' }),
  ms: nullable(ms),
})

/** How two builds differ. What is not known of one of them is null. */
export const ComparisonJson = named('Comparison', {
  a: BuildJson,
  b: BuildJson,
  same_image: nullable(Type.Boolean({ description: 'Whether both have the same digest' })),
  context: named('ContextComparison', {
    same: nullable(Type.Boolean({ description: 'Whether all files of the build context are the same' })),
    files: nullable(
      Type.Array(
        named('FileDifference', { path: Type.String(), change: Type.Enum(CHANGES, { type: 'string' }) }),
        {
          description:
            'Changed files that the first step that was not cached used, at most ten; null if b was not compared with a when it was built',
        },
      ),
    ),
    more: count('How many there are besides'),
  }),
  bases: nullable(
    Type.Array(named('BaseComparison', { name: Type.String(), a: nullable(digest), b: nullable(digest) }), {
      description: 'Base images whose digests differ',
    }),
  ),
  instructions: nullable(
    Type.Array(named('InstructionComparison', { a: nullable(Type.String()), b: nullable(Type.String()) }), {
      description: 'Lines of the Dockerfile that differ; null: only the other one has it',
    }),
  ),
  settings: nullable(
    Type.Array(
      named('SettingComparison', {
        name: Type.String({ examples: ['build-arg VERSION'] }),
        change: Type.Enum(['added', 'removed', 'changed'], { type: 'string' }),
      }),
      { description: 'Settings of the server that differ, by name' },
    ),
  ),
  steps: Type.Array(
    named('StepComparison', { name: Type.String(), a: nullable(StepTimeJson), b: nullable(StepTimeJson) }),
  ),
})
export type ComparisonJson = Static<typeof ComparisonJson>

export function timelineJson(build: string, timeline: Timeline): TimelineJson {
  const { attempt, phases, steps, critical, missed, excerpt = null } = timeline
  const onPath = new Set(critical)
  return {
    ...{ build, attempt },
    phases: phases.map(({ name, startedAt, ms, note = null, running = false }) => ({
      ...{ name, started_at: startedAt, ms, running, note },
    })),
    steps: steps.map(({ startedAt, completedAt, ...step }) => ({
      ...step,
      ...{ started_at: startedAt, completed_at: completedAt, critical: onPath.has(step.number) },
    })),
    missed: missed && {
      ...{ step: missed.step, name: missed.name, causes: missed.causes, more: missed.more },
      compared_with: missed.comparedWith,
    },
    excerpt,
  }
}
