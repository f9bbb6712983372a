import { configFlags } from '../lib/cli/base-command.ts'
import { SERVICE_EXIT_CODES, withExitCodes } from '../lib/cli/exit-codes.ts'
import { ServiceCommand } from '../lib/cli/service-command.ts'
import { optionsOf } from '../lib/config/options.ts'
import { untilShutDown } from '../lib/util/lifecycle.ts'

export default class Server extends ServiceCommand {
  static override summary = 'Start the server: receive GitHub webhooks, build and push images'
  static exitCodes = SERVICE_EXIT_CODES
  static override description = withExitCodes(
    `Each push is built, pushed to the registry, and gets a commit status. The API and the logs are served on the same port.

On SIGTERM the server starts no more builds and finishes those in progress, for up to --drain. What it accepts meanwhile
is built after the next start. A second signal requeues the builds in progress at once.`,
    Server.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> --registry ghcr.io/acme',
    'GITHUB_TOKEN=... GITHUB_SECRET=... <%= config.bin %> <%= command.id %> --port 80 --url https://conveyor.acme.dev',
  ]
  static override flags = configFlags(optionsOf('server'))

  async run(): Promise<void> {
    await this.runService('server', await this.parse(Server), async (config, io) => {
      const { serve } = await import('../lib/app/serve.ts')
      await serve(config, io, untilShutDown())
    })
  }
}
