import type { DestinationStream, Logger } from 'pino'
import { type Config, secretsOf } from '../config/config.ts'
import type { Log, LogFields } from '../core/log.ts'
import { oneLine } from '../core/one-line.ts'
import { newRedactor } from './setup.ts'

/** Standard error, or a stand-in for it. */
interface LogOutput {
  readonly isTTY?: boolean | undefined
  write(text: string): unknown
}

/** Shorter secrets are often words, such as `conveyor`, that many lines contain. */
const MIN_SECRET = 12

/**
 * Opens the log of a server or worker in the format of `--log.format`. Each line is written before the call returns, so
 * that none is lost when the process ends; secrets of the config are masked.
 */
export async function openProcessLog(
  config: Config,
  component: 'server' | 'worker',
  output: LogOutput,
): Promise<{ log: Log; isJson: boolean }> {
  const redactor = newRedactor()
  for (const secret of secretsOf(config)) if (secret.length >= MIN_SECRET) redactor.add(secret)
  const clean = (line: string) => redactor.redact(oneLine(line))
  const { format } = config.log
  if (format === 'text') return { log: (line) => void output.write(`${clean(line)}\n`), isJson: false }

  const { pino } = await import('pino')
  const isPretty = format === 'pretty' || (format === 'auto' && output.isTTY === true)
  const logger = pino(
    {
      base: isPretty ? null : { pid: process.pid, component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    isPretty ? await prettyStream(output) : plainStream(output),
  )
  return { log: (line, fields) => write(logger, clean(line), fields), isJson: !isPretty }
}

const WARNING = 'warning: '

function write(logger: Logger, line: string, { level, ...fields }: LogFields = {}): void {
  const isWarning = line.startsWith(WARNING)
  const text = isWarning ? line.slice(WARNING.length) : line
  logger[level ?? (isWarning ? 'warn' : 'info')](fields, text)
}

// Not pino's own destination: Node writes to pipes and files synchronously, and handles a reader that has gone.
function plainStream(output: LogOutput): DestinationStream {
  return { write: (text) => void output.write(text) }
}

async function prettyStream(output: LogOutput): Promise<DestinationStream> {
  const { prettyFactory } = await import('pino-pretty')
  const pretty = prettyFactory({
    colorize: output.isTTY === true,
    translateTime: 'SYS:HH:MM:ss',
    singleLine: true,
    // The line itself names the repository and the commit.
    ignore: 'repository,sha',
  })
  return { write: (text) => void output.write(pretty(text)) }
}
