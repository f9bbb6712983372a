import { Flags } from '@oclif/core'
import type { TokenClient } from '../../client/tokens.ts'
import { loginInEnvironment, proxiesInEnvironment } from '../../config/client/environment.ts'
import type { OptionValues } from '../../config/option-reader.ts'
import { OPTIONS } from '../../config/options.ts'
import { hasPassword } from '../../config/passwords.ts'
import { type CommandLine, ConveyorCommand, configFlags } from '../base-command.ts'

/** Where the tokens are: on a server, or in the database of this machine. */
export function tokenFlags() {
  const local = [OPTIONS['data-dir'], OPTIONS.db].filter((one) => one !== undefined)
  return {
    url: Flags.string({
      env: 'CONVEYOR_URL',
      helpValue: '<url>',
      description: 'URL of a Conveyor server [default: the tokens on this machine]',
    }),
    auth: Flags.string({
      env: 'CONVEYOR_AUTH',
      helpValue: '<user:pass|token>',
      description:
        'With --url: its login, or a token with the scope admin [default: CONVEYOR_TOKEN or BASIC_AUTH]',
    }),
    ...configFlags(local, 'THIS MACHINE'),
  }
}

/** Base of the commands that manage tokens. */
export abstract class TokenCommand extends ConveyorCommand {
  /** Runs `work` on the tokens that the flags are about. @throws ConveyorError */
  protected async withTokens<T>(
    flags: OptionValues & { url?: string | undefined; auth?: string | undefined },
    raw: CommandLine,
    work: (tokens: TokenClient) => Promise<T>,
  ): Promise<T> {
    this.hideArguments()
    const { url, auth } = flags
    if (auth !== 'none') this.warnOfFlag('auth', 'CONVEYOR_AUTH', raw)
    if (url !== undefined && hasPassword(url)) this.warnOfFlag('url', 'CONVEYOR_AUTH', raw)
    const { withTokens } = await import('./with-tokens.ts')
    const server = {
      // `--auth` is the login of a server here, not an option of one.
      ...{ url: url || undefined, auth: auth || loginInEnvironment(), proxies: proxiesInEnvironment() },
      config: () => this.readConfig({ 'data-dir': flags['data-dir'], db: flags.db }, raw),
    }
    return withTokens(server, work)
  }
}
