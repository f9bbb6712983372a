import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/base-command.ts'
import { parseConfig } from '../lib/config.ts'

export default class Bootstrap extends ConveyorCommand {
  static override description =
    'Prepare this machine for the server: data directory, settings with a webhook secret, a check of git and Docker.'
  static override examples = ['<%= config.bin %> <%= command.id %>']
  static override flags = {
    settings: Flags.string({
      default: '.env',
      helpValue: '<file>',
      description: 'where to write the settings',
    }),
    ...configFlags(['data-dir']),
  }

  async run(): Promise<void> {
    const { flags } = await this.parse(Bootstrap)
    const { bootstrap } = await import('../lib/bootstrap.ts')
    const steps = await bootstrap(parseConfig(flags), flags.settings)
    for (const step of steps) this.log(`${step.ok ? 'ok     ' : 'MISSING'}  ${step.text}`)
    if (steps.some((step) => !step.ok)) this.exit(3)
    this.log(`
Next:
  1. set -a; . ./${flags.settings}; set +a; conveyor server
  2. In GitHub, add a webhook to the repository or the organization: URL of this server, content type
     application/json, the secret from ${flags.settings}, just the push event.`)
  }
}
