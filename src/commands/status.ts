import { Args, Flags } from '@oclif/core'
import { withExitCodes } from '../lib/cli/exit-codes.ts'
import {
  SERVER_COMMAND_EXIT_CODES,
  SERVER_FLAGS,
  ServerCommand,
  TARGET_HELP,
} from '../lib/cli/server-command.ts'
import { printResult } from '../lib/cli/standard-streams.ts'

export default class Status extends ServerCommand {
  static override summary = 'Show a build: its state, image, commit, and times'
  static exitCodes = SERVER_COMMAND_EXIT_CODES
  static override description = withExitCodes(
    'The exit code says whether the build was found, not how it ended: read `state` with --json for that.',
    Status.exitCodes,
  )
  static override usage = '<%= command.id %> TARGET [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> 53f6093e',
    '<%= config.bin %> <%= command.id %> acme/web@827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57 --json',
  ]
  static override args = { target: Args.string({ required: true, description: TARGET_HELP }) }
  static override flags = {
    json: Flags.boolean({ description: 'Output the build as JSON' }),
    ...SERVER_FLAGS,
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Status)
    const { statusCommand } = await import('../lib/cli/builds/status.ts')
    const output = await this.withServer(flags, raw, (connection) =>
      statusCommand(connection, args.target, flags.json),
    )
    await printResult(output)
  }
}
