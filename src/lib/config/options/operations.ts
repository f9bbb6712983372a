import { option } from '../option.ts'
import { anyText, toggle, wholeNumber } from '../values.ts'

/** What operators see of a running server or worker. */
export const METRICS = {
  /** Null: none. */
  port: option({
    flag: 'metrics.port',
    env: 'METRICS_PORT',
    help: 'Port that serves /metrics, /healthz and /readyz without a login, in addition to --port; 0 picks a free port',
    value: 'number',
    type: wholeNumber(0, 65_535, 'a port number'),
    defaultText: 'none',
  }),
  host: option({
    flag: 'metrics.host',
    env: 'METRICS_HOST',
    help: 'Address that --metrics.port is on',
    value: 'address',
    type: anyText,
    default: '127.0.0.1',
  }),
  byRepository: option({
    flag: 'metrics.repository',
    env: 'METRICS_REPOSITORY',
    help: 'Count and time builds by repository: the first 100, and `other` for the rest',
    type: toggle,
  }),
}
