import { Flags } from '@oclif/core'
import { TOKEN_EXIT_CODES, withExitCodes } from '../../lib/cli/exit-codes.ts'
import { printResult } from '../../lib/cli/standard-streams.ts'
import { TokenCommand, tokenFlags } from '../../lib/cli/token/command.ts'

export default class TokenList extends TokenCommand {
  static override summary = 'List the tokens for the API'
  static exitCodes = TOKEN_EXIT_CODES
  static override description = withExitCodes(
    'Shows what each token may do, and when it was last used. Revoked tokens are not listed.',
    TokenList.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override flags = {
    json: Flags.boolean({ description: 'Output a JSON array' }),
    ...tokenFlags(),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(TokenList)
    const tokens = await this.withTokens(flags, raw, (all) => all.list())
    const { tokenTable } = await import('../../lib/cli/token/output.ts')
    await printResult(flags.json ? `${JSON.stringify(tokens, null, 2)}\n` : tokenTable(tokens))
    if (tokens.length === 0 && !flags.json) this.say('There are no tokens; `conveyor token create` makes one')
  }
}
