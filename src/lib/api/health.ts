import { named, nullable, type Static, Type } from './type.ts'

/** The process answers requests. */
export const HealthJson = named('Health', {
  status: Type.Literal('ok'),
  version: nullable(Type.String({ examples: ['0.1.0'] })),
})
export type HealthJson = Static<typeof HealthJson>

/** Whether builds can run, and the state of each component they need, by name. */
export const ReadinessJson = Type.Object(
  { status: Type.Enum(['ok', 'unavailable'], { type: 'string' }) },
  {
    title: 'Readiness',
    description: 'Every other key is a component that builds need',
    additionalProperties: { enum: ['ok', 'unavailable'], type: 'string' },
    examples: [{ status: 'ok', store: 'ok', queue: 'ok', engine: 'ok' }],
  },
)
