import { Command, Errors, Flags, type Interfaces } from '@oclif/core'
import { type Config, parseConfig } from '../config/config.ts'
import { helpOf, type Option } from '../config/option.ts'
import type { OptionValues } from '../config/option-reader.ts'
import { SECRET_OPTIONS, TOPICS } from '../config/options.ts'
import { hasPassword } from '../config/passwords.ts'
import { fileVariable } from '../config/secret-files.ts'
import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'

/**
 * Exit codes of commands. 0: success. 1: the build failed. 2: the request is invalid or not permitted.
 * 3: a required component is unavailable; retrying may help. 130: stopped with Ctrl-C, as in shells.
 */
export const EXIT_CODES: Record<ErrorKind, number> = {
  build_failed: 1,
  timeout: 1,
  cancelled: 130,
  invalid: 2,
  not_found: 2,
  unauthorized: 2,
  unavailable: 3,
}

/** The arguments as parsed by oclif. */
export type CommandLine = Interfaces.ParserOutput['raw']

/** Base of Conveyor's commands: errors for people, results on stdout, everything else on stderr. */
export abstract class ConveyorCommand extends Command {
  /** Hides the command line, which may hold a token, from `ps`. */
  protected hideArguments(): void {
    process.title = `conveyor ${this.id}`
  }

  /**
   * Reads the Config from flags and from secrets in files, and prints its warnings.
   * @param raw the arguments as parsed by oclif
   * @param say prints a line
   * @throws ConveyorError `invalid`
   */
  protected readConfig(
    flags: OptionValues,
    raw: CommandLine,
    say: (line: string) => void = (line) => this.say(line),
  ): Config {
    const inFiles = SECRET_OPTIONS.filter(({ flag, env }) => this.ctor.flags[flag]?.env === env)
    for (const { flag, env, secret } of inFiles) {
      const value = String(flags[flag])
      // `--auth none` is not a secret.
      if (secret === 'all' ? value !== 'none' : hasPassword(value)) this.warnOfFlag(flag, env, raw, say)
    }
    const config = parseConfig(flags, inFiles)
    for (const warning of config.warnings) say(`warning: ${warning}`)
    return config
  }

  /** Warns about a secret on the command line, where others may have read it. */
  protected warnOfFlag(
    name: string,
    variable: string,
    raw: CommandLine,
    say: (line: string) => void = (line) => this.say(line),
  ): void {
    if (!raw.some((token) => token.type === 'flag' && token.flag === name)) return
    say(
      `warning: --${name} on the command line is visible to everyone on this machine; use ${variable}, or a file in ${fileVariable(variable)}`,
    )
  }

  /** Prints a line for the user. */
  protected say(line: string): void {
    process.stderr.write(`${oneLine(line)}\n`)
  }

  protected override async catch(error: Error & { exitCode?: number }): Promise<void> {
    const { text, exit } = asShown(error)
    if (text === null || (process.stderr.isTTY && !(error instanceof ConveyorError)))
      return super.catch(error)
    fail(text, exit)
  }
}

/** The text of an error and its exit code; no text for unexpected errors and for oclif's ExitError. */
export function asShown(error: Error): { text: string | null; exit: number } {
  if (error instanceof ConveyorError) return { text: error.advice, exit: EXIT_CODES[error.kind] }
  const isUsage = error instanceof Errors.CLIError && !(error instanceof Errors.ExitError)
  const exit = isUsage ? (error.oclif.exit ?? EXIT_CODES.invalid) : 1
  return { text: isUsage ? error.message : null, exit }
}

/** Prints an error, and exits. */
export function fail(text: string, exit: number): never {
  if (process.stderr.isTTY) return Errors.error(text, { exit })
  // Not a terminal: oclif would wrap lines at 80 columns.
  process.stderr.write(`${errorLines(text)}\n`)
  return Errors.exit(exit)
}

/** An error as commands print it, with a mark on each line. */
export function errorLines(text: string, mark = '›'): string {
  return `Error: ${text}`
    .split('\n')
    .map((line) => ` ${mark}   ${line}`.trimEnd())
    .join('\n')
}

/** The flags of options; in --help, below their topics or one heading. */
export function configFlags(options: readonly Option[], helpGroup?: string): Interfaces.FlagInput {
  return Object.fromEntries(
    options.map((option) => {
      const topic = TOPICS.find((one) => one.options.includes(option))?.title
      const group = helpGroup ?? topic?.toUpperCase()
      const common = { description: helpOf(option), env: option.env, ...(group && { helpGroup: group }) }
      if (option.form === 'switch') return [option.flag, Flags.boolean(common)]
      const flag = { ...common, helpValue: `<${option.value}>` }
      return [
        option.flag,
        option.form === 'list' ? Flags.string({ ...flag, multiple: true }) : Flags.string(flag),
      ]
    }),
  )
}
