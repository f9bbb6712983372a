import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { printResult } from '../lib/cli/standard-streams.ts'
import { optionsOf } from '../lib/config/options.ts'
import { duration } from '../lib/config/values.ts'
import { ConveyorError } from '../lib/core/errors.ts'

const RESPONSE_TIMEOUT = duration(1, '10s or 1m')

export default class Doctor extends ConveyorCommand {
  static override summary = 'Check your setup: every service that builds need'
  static exitCodes: ExitCodes = {
    0: 'nothing is broken',
    1: 'something is broken',
    2: 'invalid configuration',
  }
  static override description = withExitCodes(
    `Takes the options of a server, changes nothing, and prints one line per check, with advice on how to fix what is
broken.`,
    Doctor.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %> --registry ghcr.io/acme',
    'GITHUB_TOKEN=... <%= config.bin %> <%= command.id %> --json',
  ]
  static override flags = {
    json: Flags.boolean({ description: 'Output a JSON array of {part, level, ok, found, advice}' }),
    'response-timeout': Flags.string({
      helpValue: '<duration>',
      default: '10s',
      description: 'How long to wait for a response, such as 10s or 1m',
    }),
    ...configFlags(optionsOf('doctor')),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Doctor)
    this.hideArguments()
    const limitMs = RESPONSE_TIMEOUT.parse(flags['response-timeout'], {})
    if (limitMs === undefined) {
      throw new ConveyorError(
        'invalid',
        `--response-timeout is ${JSON.stringify(flags['response-timeout'])}: expected ${RESPONSE_TIMEOUT.accepts}`,
      )
    }
    const config = this.readConfig(flags, raw)
    const { doctor } = await import('../lib/doctor/doctor.ts')
    const { output, exitCode } = await doctor(config, { json: flags.json, limitMs })
    await printResult(output)
    this.exit(exitCode)
  }
}
