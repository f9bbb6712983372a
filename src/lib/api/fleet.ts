import { BuildJson } from './build.ts'
import { named, nullable, type Static, Type } from './type.ts'

const time = (description: string) => Type.String({ format: 'date-time', description })

/** A pending build, and what it waits for. */
export const QueuedBuildJson = named('QueuedBuild', {
  build: BuildJson,
  position: Type.Integer({
    minimum: 1,
    description: 'Among all pending builds, in the order in which they start',
  }),
  waiting_seconds: Type.Number({ minimum: 0, description: 'Since it was accepted' }),
  waits_for: Type.Enum(['worker', 'slot', 'retry', 'alone', 'start'], {
    type: 'string',
    description:
      '`worker`: no worker runs. `slot`: all workers are busy. `retry`: an attempt failed, and it is tried again at `retry_at`. `alone`: workers died while they ran it and other builds, so it has to run alone. `start`: it is about to start.',
  }),
  retry_at: nullable(time('When it is tried again')),
})
export type QueuedBuildJson = Static<typeof QueuedBuildJson>

/** The queue: how much there is to do, and what waits. */
export const QueueJson = named('Queue', {
  pending: Type.Integer({ minimum: 0, description: 'Builds that wait' }),
  building: Type.Integer({ minimum: 0, description: 'Builds that run' }),
  workers: Type.Integer({ minimum: 0 }),
  slots: Type.Integer({ minimum: 0, description: 'How many builds the workers can run at a time' }),
  builds: Type.Array(QueuedBuildJson, {
    description:
      'Pending builds that the caller may see, in the order in which they start: first what somebody asked for through the API or the CLI, then one build of each repository in turn',
  }),
  next: nullable(Type.String({ description: '`cursor` of the next page; null after the last one' })),
})
export type QueueJson = Static<typeof QueueJson>

/** A process that runs builds. */
export const WorkerJson = named(
  'Worker',
  {
    id: Type.String({ description: 'Unique to the process' }),
    host: Type.String({ examples: ['worker-1'] }),
    pid: Type.Integer({ minimum: 0 }),
    version: Type.String({ examples: ['0.1.0'] }),
    slots: Type.Integer({ minimum: 0, description: 'How many builds it runs at a time' }),
    builds: Type.Array(Type.String(), { description: 'Ids of the builds that it runs' }),
    warm: Type.Array(Type.String(), {
      description: 'Repositories that it has a mirror and layers of, which the caller may see',
    }),
    started_at: time('When the process started'),
    seen_at: time('When it last reported itself, which it does every 10 seconds'),
  },
  { description: 'A process that runs builds, as it has last reported itself' },
)
export type WorkerJson = Static<typeof WorkerJson>

export const WorkersJson = named('Workers', {
  workers: Type.Array(WorkerJson, { description: 'By host and process id' }),
})
export type WorkersJson = Static<typeof WorkersJson>
