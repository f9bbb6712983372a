import { Args, Flags } from '@oclif/core'
import { withExitCodes } from '../lib/cli/exit-codes.ts'
import {
  SERVER_COMMAND_EXIT_CODES,
  SERVER_FLAGS,
  ServerCommand,
  TARGET_HELP,
} from '../lib/cli/server-command.ts'

export default class Logs extends ServerCommand {
  static override summary = 'Print the log of a build'
  static exitCodes = { ...SERVER_COMMAND_EXIT_CODES, 130: 'interrupted (Ctrl-C); the build continues' }
  static override description = withExitCodes(
    'The log is written to stdout, byte by byte as it is stored. With --follow, the command ends when the build does.',
    Logs.exitCodes,
  )
  static override usage = '<%= command.id %> TARGET [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> 53f6093e',
    '<%= config.bin %> <%= command.id %> -f acme/web@827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57',
  ]
  static override args = { target: Args.string({ required: true, description: TARGET_HELP }) }
  static override flags = {
    follow: Flags.boolean({ char: 'f', description: 'Keep printing while the build is running' }),
    ...SERVER_FLAGS,
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Logs)
    const { printLog } = await import('../lib/cli/builds/logs.ts')
    await this.withServer(flags, raw, (...to) => printLog(...to, args.target, flags.follow))
  }
}
