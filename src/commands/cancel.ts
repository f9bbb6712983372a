import { Args } from '@oclif/core'
import { withExitCodes } from '../lib/cli/exit-codes.ts'
import {
  SERVER_COMMAND_EXIT_CODES,
  SERVER_FLAGS,
  ServerCommand,
  TARGET_HELP,
} from '../lib/cli/server-command.ts'

export default class Cancel extends ServerCommand {
  static override summary = 'Cancel a build that is waiting or running'
  static exitCodes = {
    ...SERVER_COMMAND_EXIT_CODES,
    2: 'the request is invalid: arguments, unknown build, one that has ended, refused credentials',
  }
  static override description = withExitCodes(
    `A waiting build ends at once, a running one is stopped within about a second. Once its tags are being moved, a build can no
longer be cancelled.`,
    Cancel.exitCodes,
  )
  static override usage = '<%= command.id %> TARGET [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> 53f6093e',
    '<%= config.bin %> <%= command.id %> acme/web@827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57',
  ]
  static override args = { target: Args.string({ required: true, description: TARGET_HELP }) }
  static override flags = { ...SERVER_FLAGS }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Cancel)
    const { cancelCommand } = await import('../lib/cli/builds/cancel.ts')
    this.say(await this.withServer(flags, raw, (connection) => cancelCommand(connection, args.target)))
  }
}
