import { Flags } from '@oclif/core'
import { withExitCodes } from '../lib/cli/exit-codes.ts'
import { SERVER_COMMAND_EXIT_CODES, SERVER_FLAGS, ServerCommand } from '../lib/cli/server-command.ts'
import { printResult } from '../lib/cli/standard-streams.ts'

export default class List extends ServerCommand {
  static override summary = 'List builds, newest first'
  static exitCodes = SERVER_COMMAND_EXIT_CODES
  static override description = withExitCodes(
    'Shows the newest builds that match all filters.',
    List.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> --repository acme/web --state failed',
    '<%= config.bin %> <%= command.id %> --branch main --limit 1 --json',
  ]
  static override flags = {
    repository: Flags.string({
      char: 'r',
      helpValue: '<owner/name>',
      description: 'Only builds of this repository',
    }),
    branch: Flags.string({ char: 'b', helpValue: '<name>', description: 'Only builds of this branch' }),
    state: Flags.option({
      char: 's',
      options: ['pending', 'building', 'succeeded', 'failed', 'cancelled'] as const,
      description: 'Only builds in this state',
    })(),
    since: Flags.string({
      helpValue: '<time>',
      description: 'Only builds requested since then, such as 2026-03-01 or 2026-03-01T12:00:00Z',
    }),
    text: Flags.string({
      helpValue: '<text>',
      description:
        'Only builds with this in their repository, branch, commit title, or at the start of the sha',
    }),
    limit: Flags.integer({
      char: 'L',
      default: 20,
      min: 1,
      helpValue: '<count>',
      description: 'List at most so many',
    }),
    json: Flags.boolean({ description: 'Output a JSON array' }),
    ...SERVER_FLAGS,
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(List)
    const { listCommand } = await import('../lib/cli/builds/list.ts')
    const { repository, branch, state, since, text, limit } = flags
    const query = { repository, branch, state, since, text, limit }
    const output = await this.withServer(flags, raw, (connection) =>
      listCommand(connection, query, flags.json),
    )
    await printResult(output)
    if (output === '') this.say('no builds found')
  }
}
