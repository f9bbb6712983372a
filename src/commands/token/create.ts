import { Args, Flags } from '@oclif/core'
import { TOKEN_EXIT_CODES, withExitCodes } from '../../lib/cli/exit-codes.ts'
import { printResult } from '../../lib/cli/standard-streams.ts'
import { TokenCommand, tokenFlags } from '../../lib/cli/token/command.ts'
import { SCOPES, type Scope } from '../../lib/core/access/access-token.ts'

export default class TokenCreate extends TokenCommand {
  static override summary = 'Create a token for the API, and print it'
  static exitCodes = TOKEN_EXIT_CODES
  static override description = withExitCodes(
    `The token alone is written to stdout. It cannot be shown again: the server keeps only its hash. Anyone who has it can use
the API as \`Authorization: Bearer TOKEN\`, or with any user name and the token as password.

Without --url, the token is created on this machine: in the database, or by the server that has it open.`,
    TokenCreate.exitCodes,
  )
  static override usage = '<%= command.id %> NAME --scope read|build|admin [FLAGS]'
  static override examples = [
    'CONVEYOR_TOKEN=$(<%= config.bin %> <%= command.id %> ci --scope build --repository "acme/*" --expires 90d)',
    '<%= config.bin %> <%= command.id %> prometheus --scope read > prometheus.token',
  ]
  static override args = {
    name: Args.string({ required: true, description: 'Name of the token, to revoke it by' }),
  }
  static override flags = {
    scope: Flags.option({
      options: SCOPES,
      required: true,
      description:
        'read shows builds and logs; build also requests, cancels, and retries builds; admin also creates and revokes tokens',
    })(),
    repository: Flags.string({
      multiple: true,
      helpValue: '<owner/name>',
      description: 'Repositories that it is for, such as acme/* (repeatable) [default: all]',
    }),
    expires: Flags.string({
      helpValue: '<duration>',
      description: 'When it stops working, such as 90d or 12h [default: never]',
    }),
    json: Flags.boolean({ description: 'Output the token with its properties as JSON' }),
    ...tokenFlags(),
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(TokenCreate)
    const { scope, repository = [], expires = null } = flags
    const order = { name: args.name, scope: scope as Scope, repositories: repository, expires_in: expires }
    const created = await this.withTokens(flags, raw, (tokens) => tokens.create(order))
    await printResult(flags.json ? `${JSON.stringify(created, null, 2)}\n` : `${created.token}\n`)
    const { tokenSummary } = await import('../../lib/cli/token/output.ts')
    for (const line of tokenSummary(created)) this.say(line)
  }
}
