import { configFlags } from '../lib/cli/base-command.ts'
import { SERVICE_EXIT_CODES, withExitCodes } from '../lib/cli/exit-codes.ts'
import { ServiceCommand } from '../lib/cli/service-command.ts'
import { optionsOf } from '../lib/config/options.ts'
import { untilShutDown } from '../lib/util/lifecycle.ts'

export default class Worker extends ServiceCommand {
  static override summary = 'Start a worker: run builds that servers have queued'
  static exitCodes = SERVICE_EXIT_CODES
  static override description = withExitCodes(
    `Requires a --queue and a --db that servers and workers share.

On SIGTERM the worker takes no more builds and finishes those in progress, for up to --drain. A second signal
requeues them at once.`,
    Worker.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override examples = [
    'DATABASE_URL=postgres://conveyor:...@db.acme.dev/conveyor <%= config.bin %> <%= command.id %> --queue postgres://',
    '<%= config.bin %> <%= command.id %> --queue sqs://sqs.eu-west-1.amazonaws.com/123456789012/builds --workers 4',
  ]
  static override flags = configFlags(optionsOf('worker'))

  async run(): Promise<void> {
    await this.runService('worker', await this.parse(Worker), async (config, io) => {
      const { runWorker } = await import('../lib/app/run-workers.ts')
      await runWorker(config, io, untilShutDown())
    })
  }
}
