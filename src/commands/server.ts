import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { outliveReaders } from '../lib/cli/standard-streams.ts'
import { OPTIONS, type OptionName } from '../lib/config/options.ts'
import { untilShutDown } from '../lib/util/lifecycle.ts'

export default class Server extends ConveyorCommand {
  static override description =
    'Build an image for every push: take GitHub webhooks, build, push, set commit statuses.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> --registry ghcr.io/acme',
    'GITHUB_TOKEN=... GITHUB_SECRET=... <%= config.bin %> <%= command.id %> --port 80 --url https://conveyor.acme.dev',
  ]
  static override flags = configFlags(Object.keys(OPTIONS) as OptionName[])

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Server)
    this.hideArguments()
    outliveReaders()
    const config = this.readConfig(flags, raw)
    const { serve } = await import('../lib/app/serve.ts')
    await serve(config, { stdout: process.stdout, log: (line) => this.say(line) }, untilShutDown())
  }
}
