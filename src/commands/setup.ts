import { Args, Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { openBrowser } from '../lib/cli/builds/open.ts'
import { type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { printResult } from '../lib/cli/standard-streams.ts'
import { optionsOf } from '../lib/config/options.ts'

export default class Setup extends ConveyorCommand {
  static override summary = 'Connect the server with GitHub: webhooks, or a GitHub App'
  static exitCodes: ExitCodes = {
    0: 'everything is set up',
    1: 'GitHub does not get the right answer from the server, or another webhook leads to it',
    2: 'the request is invalid: arguments, settings, refused token',
    3: 'GitHub is unavailable; retrying may help',
  }
  static override description = withExitCodes(
    `With a target, creates the webhook of the repository or organization, or repairs it: URL, secret, events, content type.
Then GitHub sends a ping, and the answer is shown. It can be run again at any time, and takes the options of the server.

Without one, opens the server's page on which you make a GitHub App of your own, which needs no webhooks and no token.`,
    Setup.exitCodes,
  )
  static override usage = '<%= command.id %> [TARGET] [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    'GITHUB_TOKEN=... <%= config.bin %> <%= command.id %> acme/web --url https://conveyor.example.com',
    '<%= config.bin %> <%= command.id %> acme',
  ]
  static override args = {
    target: Args.string({ description: 'OWNER/NAME, or an organization for all of its repositories' }),
  }
  static override flags = {
    browser: Flags.boolean({
      default: true,
      allowNo: true,
      description: 'Open the browser; --no-browser only prints the URL',
    }),
    ...configFlags(optionsOf('doctor')),
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Setup)
    this.hideArguments()
    const config = this.readConfig(flags, raw)
    if (args.target === undefined) {
      const url = `${config.url ?? `http://localhost:${config.port}`}/setup`
      await printResult(`${url}\n`)
      if (flags.browser && !(await openBrowser(url))) this.say('no browser found; open the URL above')
      return
    }
    const { setUpWebhook } = await import('../lib/setup/webhook.ts')
    const report = ({ state, text }: { state: string; text: string }) =>
      this.log(`${state.padEnd(7)}  ${text}`)
    const ok = await setUpWebhook(config, args.target, { report, log: (line) => this.say(line) })
    if (!ok) this.exit(1)
  }
}
