import { Args } from '@oclif/core'
import { TOKEN_EXIT_CODES, withExitCodes } from '../../lib/cli/exit-codes.ts'
import { TokenCommand, tokenFlags } from '../../lib/cli/token/command.ts'

export default class TokenRevoke extends TokenCommand {
  static override summary = 'Revoke a token for the API'
  static exitCodes = TOKEN_EXIT_CODES
  static override description = withExitCodes(
    'It stops working at once, and for good.',
    TokenRevoke.exitCodes,
  )
  static override usage = '<%= command.id %> NAME|ID [FLAGS]'
  static override args = {
    token: Args.string({ required: true, description: 'Name or ID of the token' }),
  }
  static override flags = tokenFlags()

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(TokenRevoke)
    const { name, id } = await this.withTokens(flags, raw, (tokens) => tokens.revoke(args.token))
    this.say(`revoked the token ${name} (${id})`)
  }
}
