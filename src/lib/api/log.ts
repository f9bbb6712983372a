import { BuildStateJson } from './build.ts'
import { named, nullable, type Static, Type } from './type.ts'

const row = (description: string) => Type.Integer({ minimum: 1, description })
const next = row('The line to continue with')

const range = {
  from: row('The first line asked for'),
  next,
  total: Type.Integer({ minimum: 0, description: 'How many lines there are so far' }),
  ended: Type.Boolean({
    description: 'Whether there will be no more: the build has ended, and its whole log is there',
  }),
}

/** A line of a log as data. */
export const LogLineJson = named('LogLine', {
  number: row('From 1. Lines over 32 KiB count as several'),
  step: nullable(
    Type.String({
      description:
        'The step that it belongs to: its number in the log, from the second attempt on `attempt.number`',
      examples: ['5', '2.5'],
    }),
  ),
  seconds: nullable(Type.Number({ description: 'Since the step began' })),
  text: Type.String({ description: 'As a terminal would show it, without colors' }),
})
export type LogLineJson = Static<typeof LogLineJson>

export const LogLinesJson = named('LogLines', { ...range, lines: Type.Array(LogLineJson) })

/** A step in the viewer. */
export const StepViewJson = named('LogStep', {
  key: Type.String({ description: 'As in `step` of a line', examples: ['5'] }),
  state: Type.Enum(['running', 'done', 'cached', 'failed', 'cancelled'], { type: 'string' }),
  first: row('Its first line'),
  last: row('Its last line so far; lines of other steps may be in between'),
  html: Type.String({ description: 'Name, state and duration for the page' }),
})
export type StepViewJson = Static<typeof StepViewJson>

const rendered = {
  html: Type.String({ description: 'The lines for the page' }),
  steps: Type.Array(StepViewJson),
}

export const RenderedLinesJson = named('RenderedLogLines', {
  ...range,
  ...rendered,
  state: BuildStateJson,
  head: Type.String({ description: 'The head of the page' }),
})

/** Data of a `rows` event: lines, and the steps that changed with them. */
export const RowsEventJson = named('RowsEvent', { next, ...rendered })
export type RowsEventJson = Static<typeof RowsEventJson>

/** Data of a `head` event, at every change of state, and at the end. */
export const HeadEventJson = named('HeadEvent', {
  state: BuildStateJson,
  html: Type.String({ description: 'The head of the page' }),
})

export const RowsEndEventJson = named('RowsEndEvent', { state: BuildStateJson })

export const LogSearchJson = named('LogSearch', {
  q: Type.String(),
  from: row('Where the search began'),
  total: Type.Integer({ minimum: 0, description: 'How many lines have the text' }),
  lines: Type.Array(Type.Integer({ minimum: 1 }), { description: 'Their numbers; the first 1000' }),
})
