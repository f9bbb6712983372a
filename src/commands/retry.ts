import { Args, Flags } from '@oclif/core'
import { BUILD_EXIT_CODES, withExitCodes } from '../lib/cli/exit-codes.ts'
import { PROGRESS_FLAGS } from '../lib/cli/progress/flags.ts'
import { SERVER_FLAGS, ServerCommand, TARGET_HELP } from '../lib/cli/server-command.ts'
import { printResult } from '../lib/cli/standard-streams.ts'
import { terminalEnvironment } from '../lib/config/client/environment.ts'

export default class Retry extends ServerCommand {
  static override summary = 'Retry a build that has ended, and print the image'
  static exitCodes = { ...BUILD_EXIT_CODES, 130: 'interrupted (Ctrl-C); the build continues on the server' }
  static override description = withExitCodes(
    `Starts a new build of the same commit, branches, and git tags. Like \`build\`, it follows that build: the log is written to stderr, the
image to stdout.`,
    Retry.exitCodes,
  )
  static override usage = '<%= command.id %> TARGET [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> 53f6093e',
    '<%= config.bin %> <%= command.id %> 53f6093e --no-cache --detach',
  ]
  static override args = { target: Args.string({ required: true, description: TARGET_HELP }) }
  static override flags = {
    'no-cache': Flags.boolean({ description: 'Build without the cache' }),
    detach: Flags.boolean({
      char: 'd',
      description: 'Print the build ID and exit without waiting for the build',
    }),
    json: Flags.boolean({ description: 'Output the build as JSON' }),
    ...PROGRESS_FLAGS,
    ...SERVER_FLAGS,
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Retry)
    const { retryCommand } = await import('../lib/cli/builds/retry.ts')
    const { output, exitCode } = await this.withServer(flags, raw, (connection, server) =>
      retryCommand(connection, {
        ...server,
        target: args.target,
        cache: flags['no-cache'] ? false : undefined,
        detach: flags.detach,
        json: flags.json,
        progress: { kind: flags.progress, environment: terminalEnvironment() },
      }),
    )
    await printResult(output)
    this.exit(exitCode)
  }
}
