import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { outliveReaders } from '../lib/cli/standard-streams.ts'
import { OPTIONS, type OptionName } from '../lib/config/options.ts'
import { untilShutDown } from '../lib/util/lifecycle.ts'

const SERVER_ONLY = ['port', 'host', 'auth', 'allowed-hosts', 'allow', 'github.secret'] as const

export default class Worker extends ConveyorCommand {
  static override description =
    `Build what servers have queued: takes jobs from the queue until it is stopped.

On SIGTERM it takes no more, and finishes what runs, within --drain; a second signal gives that back to the queue.`
  static override examples = [
    'DATABASE_URL=postgres://conveyor:...@db.acme.dev/conveyor <%= config.bin %> <%= command.id %> --queue postgres://',
    '<%= config.bin %> <%= command.id %> --queue sqs://sqs.eu-west-1.amazonaws.com/123456789012/builds --workers 4',
  ]
  static override flags = configFlags(
    (Object.keys(OPTIONS) as OptionName[]).filter((name) => !SERVER_ONLY.some((other) => other === name)),
  )

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Worker)
    this.hideArguments()
    outliveReaders()
    const config = this.readConfig(flags, raw)
    const { runWorker } = await import('../lib/app/run-workers.ts')
    await runWorker(config, { stdout: process.stdout, log: (line) => this.say(line) }, untilShutDown())
  }
}
