import { Command, Errors, Flags, type Interfaces } from '@oclif/core'
import { type Config, parseConfig } from '../config/config.ts'
import { OPTIONS, type Option, type OptionName, type OptionValues } from '../config/options.ts'
import { fileVariable, SECRET_OPTIONS } from '../config/secret-files.ts'
import { hasPassword } from '../config/values.ts'
import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'

/**
 * What a command ends with. 0: done. 1: the build failed. 2: what was asked for cannot be right, or may not
 * be had. 3: a part that is needed does not answer; trying again may help. 130: it was stopped (Ctrl-C), as
 * shells have it.
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

/** The arguments, as oclif has read them. */
type CommandLine = Interfaces.ParserOutput['raw']

/** What Conveyor's commands have in common: errors for people, results on stdout, the rest on stderr. */
export abstract class ConveyorCommand extends Command {
  /** Hides the command line, which may hold a token, from `ps`. */
  protected hideArguments(): void {
    process.title = `conveyor ${this.id}`
  }

  /**
   * The config of the flags, and of the secrets in files. What it warns of is said.
   * @param raw the command line, as oclif has read it
   * @throws ConveyorError `invalid`
   */
  protected readConfig(flags: OptionValues, raw: CommandLine): Config {
    const names = SECRET_OPTIONS.filter((name) => this.ctor.flags[name]?.env === OPTIONS[name].env)
    for (const name of names) {
      const { env, secret }: Option = OPTIONS[name]
      const value = String(flags[name])
      // `--auth none` is no secret.
      if (secret === 'all' ? value !== 'none' : hasPassword(value)) this.warnOfFlag(name, env, raw)
    }
    const config = parseConfig(flags, names)
    for (const warning of config.warnings) this.say(`warning: ${warning}`)
    return config
  }

  /** Says of a secret in the command line that others may have read it. */
  protected warnOfFlag(name: string, variable: string, raw: CommandLine): void {
    if (!raw.some((token) => token.type === 'flag' && token.flag === name)) return
    this.say(
      `warning: --${name} stands in the command line, where everybody on this machine may have read it: give it as ${variable}, or as the file ${fileVariable(variable)}`,
    )
  }

  /** One line for the person at the terminal. */
  protected say(line: string): void {
    process.stderr.write(`${oneLine(line)}\n`)
  }

  protected override async catch(error: Error & { exitCode?: number }): Promise<void> {
    const { text, exit } = asShown(error)
    if (text === null || (process.stderr.isTTY && !(error instanceof ConveyorError)))
      return super.catch(error)
    if (process.stderr.isTTY) this.error(text, { exit })
    // For programs: oclif would break lines for a terminal of 80 columns.
    process.stderr.write(`${errorLines(text)}\n`)
    this.exit(exit)
  }
}

/** What an error says, and the status to end with; null for what nobody expected, and for the end of a command. */
function asShown(error: Error): { text: string | null; exit: number } {
  if (error instanceof ConveyorError) return { text: error.advice, exit: EXIT_CODES[error.kind] }
  const isUsage = error instanceof Errors.CLIError && !(error instanceof Errors.ExitError)
  const exit = isUsage ? (error.oclif.exit ?? EXIT_CODES.invalid) : 1
  return { text: isUsage ? error.message : null, exit }
}

/** An error as commands show it, each line marked. */
export function errorLines(text: string, mark = '›'): string {
  return `Error: ${text}`
    .split('\n')
    .map((line) => ` ${mark}   ${line}`.trimEnd())
    .join('\n')
}

/** The flags of config options, in the order of --help. */
export function configFlags(names: readonly OptionName[], helpGroup?: string): Interfaces.FlagInput {
  return Object.fromEntries(
    names.map((name) => {
      const option: Option = OPTIONS[name]
      const common = { description: option.help, env: option.env, ...(helpGroup ? { helpGroup } : {}) }
      if (!option.value) return [name, Flags.boolean(common)]
      // parseConfig fills in defaults; --help shows them all the same.
      const description = option.default ? `${option.help} [default: ${option.default}]` : option.help
      const flag = { ...common, description, helpValue: `<${option.value}>` }
      return [name, option.list ? Flags.string({ ...flag, multiple: true }) : Flags.string(flag)]
    }),
  )
}
