import chalk from 'chalk'
import Dockerode from 'dockerode'
import { openCredentials, openLogs, openQueue, openRegistry } from '../app/setup.ts'
import { openBuilder, openEndpoint } from '../app/setup-builder.ts'
import { openForge, openTokens } from '../app/setup-github.ts'
import { type Config, secretsOf } from '../config/config.ts'
import { oneLine } from '../core/one-line.ts'
import { Redactor } from '../logs/redact.ts'
import { builderChecks } from './builder.ts'
import { type Check, type Diagnosis, diagnose, type Level } from './check.ts'
import { gitChecks } from './git.ts'
import { serviceChecks } from './services.ts'
import { settingChecks } from './settings.ts'
import { storageChecks } from './storage.ts'

/** The command's output on stdout, and its exit code: 1 if something is broken. */
export interface DoctorResult {
  output: string
  exitCode: 0 | 1
}

/**
 * `conveyor doctor`: checks every component that builds need, with the options of a server, and changes nothing.
 * A component that does not respond in time is broken; connections that are still open then end with the process.
 * @param limitMs how long each check may wait, in milliseconds
 */
export async function doctor(
  config: Config,
  { json, limitMs }: { json: boolean; limitMs: number },
): Promise<DoctorResult> {
  const redactor = new Redactor()
  for (const secret of secretsOf(config)) redactor.add(secret)
  const found = await diagnose(checksOf(config, redactor), limitMs)
  const shown = found.map((one) => ({
    ...one,
    found: oneLine(redactor.redact(one.found)),
    advice: one.advice && oneLine(redactor.redact(one.advice)),
  }))
  const exitCode = shown.some(({ level }) => level === 'broken') ? 1 : 0
  return { output: json ? asJson(shown) : asText(shown), exitCode }
}

function checksOf(config: Config, redactor: Redactor): Check[] {
  const quiet = () => {}
  const docker = new Dockerode()
  const credentials = openCredentials(config, (secret) => redactor.add(secret))
  // No retries: temporary failures should be reported, too.
  const registry = openRegistry(config, credentials, { backoffMs: [] })
  const tokens = openTokens(config, quiet, { retryDelaysMs: [] })
  const forge = openForge(config, tokens, quiet, { retryDelaysMs: [] })
  return [
    ...gitChecks(config),
    ...builderChecks(config, {
      docker,
      registry,
      builder: () => openBuilder(config, docker, credentials, undefined, quiet),
      endpoint: openEndpoint,
    }),
    ...serviceChecks(config, {
      pingRegistry: (host, signal) => registry.ping(host, signal),
      account: (signal) => ('about' in tokens ? tokens.about(signal) : forge.account(signal)),
    }),
    ...settingChecks(config),
    ...storageChecks(config, {
      queue: (log) => openQueue(config, { stdout: process.stdout, log }, null),
      logs: () => openLogs(config, { stdout: process.stdout, log: quiet }, null, { durable: true }),
    }),
  ]
}

const PAINT: Record<Level, (text: string) => string> = {
  ok: chalk.green,
  warning: chalk.yellow,
  broken: chalk.red,
}

function asText(found: Diagnosis[]): string {
  const width = Math.max(...found.map(({ part }) => part.length))
  const lines = found.map(({ level, part, found, advice }) => {
    const text = advice ? `${found}. ${advice}` : found
    return `${PAINT[level](level.padEnd(7))}  ${part.padEnd(width)}  ${text}\n`
  })
  return lines.join('')
}

function asJson(found: Diagnosis[]): string {
  const shown = found.map(({ part, level, ...rest }) => ({ part, level, ok: level !== 'broken', ...rest }))
  return `${JSON.stringify(shown, null, 2)}\n`
}
