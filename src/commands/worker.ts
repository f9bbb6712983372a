import { ConveyorCommand, configFlags } from '../lib/base-command.ts'
import { OPTIONS, type OptionName, parseConfig } from '../lib/config.ts'
import { ConveyorError } from '../lib/errors.ts'

const SERVER_ONLY = ['port', 'host', 'auth', 'github.secret'] as const

export default class Worker extends ConveyorCommand {
  static override description = 'Build what a server on another machine has queued.'
  static override flags = configFlags(
    (Object.keys(OPTIONS) as OptionName[]).filter((name) => !SERVER_ONLY.some((other) => other === name)),
  )

  async run(): Promise<void> {
    const { flags } = await this.parse(Worker)
    this.hideArguments()
    const { queue } = parseConfig(flags)
    throw new ConveyorError(
      'invalid',
      `--queue (QUEUE) is ${queue.kind}://, which only its own process can read`,
      {
        hint: 'Run `conveyor server`, which builds what it accepts; a queue between machines is not part of this version',
      },
    )
  }
}
