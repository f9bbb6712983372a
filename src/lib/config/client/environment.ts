import { traceParent } from '../../core/trace-context.ts'
import { type Proxies, proxiesOf } from '../../net/proxies.ts'
import { secretInFile } from '../secret-files.ts'

/**
 * The login for a Conveyor server that the environment gives: `user:password`, or a token.
 *
 * @throws ConveyorError `invalid` if a variable names a file that cannot be read
 */
export function loginInEnvironment(): string | undefined {
  const { env } = process
  return (
    secretInFile('CONVEYOR_AUTH', env) ||
    env.CONVEYOR_TOKEN ||
    secretInFile('CONVEYOR_TOKEN', env) ||
    env.BASIC_AUTH ||
    secretInFile('BASIC_AUTH', env)
  )
}

/** The proxies that the environment names, for whatever runs without a Config. */
export function proxiesInEnvironment(): Proxies {
  return proxiesOf(process.env)
}

/** The trace that the caller of a command is part of: https://opentelemetry.io/docs/specs/otel/context/env-carriers/ */
export function traceInEnvironment(): string | undefined {
  return traceParent(process.env.TRACEPARENT) ?? undefined
}

/** How the environment wants a terminal to be used. */
export interface TerminalEnvironment {
  /** NO_COLOR is set: https://no-color.org */
  noColor: boolean
  /** The terminal cannot move its cursor. */
  dumb: boolean
}

export function terminalEnvironment({ NO_COLOR, TERM } = process.env): TerminalEnvironment {
  return { noColor: Boolean(NO_COLOR), dumb: TERM === 'dumb' }
}
