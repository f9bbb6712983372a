import { availableParallelism } from 'node:os'
import { EVERY_BUILD, option } from '../option.ts'
import { duration, retryDelays, wholeNumber } from '../values.ts'

/** How many builds run, and for how long. */
export const WORKERS = {
  workers: option({
    flag: 'workers',
    env: 'WORKERS',
    help: 'Maximum number of concurrent builds',
    value: 'number',
    type: wholeNumber(1, 1000),
    default: String(Math.min(availableParallelism(), 1000)),
    defaultText: 'number of CPUs',
  }),
  warm: option({
    flag: 'warm',
    env: 'WARM',
    help: 'Number of recently built repositories whose mirror and layers are fetched at startup; 0 for none',
    value: 'number',
    type: wholeNumber(0, 1000),
    default: '10',
  }),
  timeoutMs: option({
    flag: 'timeout',
    env: 'TIMEOUT',
    help: 'Time limit for a build: 90s, 20m, 1h',
    value: 'duration',
    type: duration(1, '90s, 20m, or 1h'),
    default: '20m',
    commands: EVERY_BUILD,
  }),
  drainMs: option({
    flag: 'drain',
    env: 'DRAIN',
    help: 'How long running builds may continue after SIGTERM before they are requeued',
    value: 'duration',
    type: duration(0, '30s or 10m'),
    default: '10m',
  }),
  /** In seconds. */
  retryDelays: option({
    flag: 'retry.delays',
    env: 'RETRY_DELAYS',
    help: 'Delays before retries of a build that failed because of the engine, the registry, or the network; or none',
    value: 'durations',
    type: retryDelays,
    default: '5s,30s',
    commands: EVERY_BUILD,
  }),
}
