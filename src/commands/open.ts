import { Args, Flags } from '@oclif/core'
import { withExitCodes } from '../lib/cli/exit-codes.ts'
import {
  SERVER_COMMAND_EXIT_CODES,
  SERVER_FLAGS,
  ServerCommand,
  TARGET_HELP,
} from '../lib/cli/server-command.ts'
import { printResult } from '../lib/cli/standard-streams.ts'

export default class Open extends ServerCommand {
  static override summary = 'Open the page of a build or repository in the browser'
  static exitCodes = SERVER_COMMAND_EXIT_CODES
  static override description = withExitCodes(
    'Also prints the URL to stdout. If this machine has no browser, that is all it does.',
    Open.exitCodes,
  )
  static override usage = '<%= command.id %> [TARGET] [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> 53f6093e',
    '<%= config.bin %> <%= command.id %> acme/web',
    '<%= config.bin %> <%= command.id %> acme/web@827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57 --no-browser',
  ]
  static override args = {
    target: Args.string({
      description: `${TARGET_HELP}; OWNER/NAME for a repository; nothing for all builds`,
    }),
  }
  static override flags = {
    browser: Flags.boolean({
      default: true,
      allowNo: true,
      description: 'Open the browser; --no-browser only prints the URL',
    }),
    ...SERVER_FLAGS,
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Open)
    const { pageUrl, openBrowser } = await import('../lib/cli/builds/open.ts')
    const url = await this.withServer(flags, raw, (connection) => pageUrl(connection, args.target))
    await printResult(`${url}\n`)
    if (flags.browser && !(await openBrowser(url))) this.say('no browser found; open the URL above')
  }
}
