import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { printResult } from '../lib/cli/standard-streams.ts'
import { optionsOf } from '../lib/config/options.ts'

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
    ...configFlags(optionsOf('doctor')),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Doctor)
    this.hideArguments()
    const config = this.readConfig(flags, raw)
    const { doctor } = await import('../lib/doctor/doctor.ts')
    const { output, exitCode } = await doctor(config, { json: flags.json })
    await printResult(output)
    this.exit(exitCode)
  }
}
