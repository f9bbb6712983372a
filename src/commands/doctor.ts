import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { printResult } from '../lib/cli/standard-streams.ts'
import { OPTIONS, type OptionName } from '../lib/config/options.ts'

export default class Doctor extends ConveyorCommand {
  static override description =
    `Ask every part that builds need, and say what to do about those that are broken.

Takes the options of a server, changes nothing, and prints a line for each part.

Exit codes: 0 nothing is broken; 1 something is; 2 the options cannot be right.`
  static override examples = [
    '<%= config.bin %> <%= command.id %> --registry ghcr.io/acme',
    'GITHUB_TOKEN=... <%= config.bin %> <%= command.id %> --json',
  ]
  static override flags = {
    json: Flags.boolean({ description: 'print an array of {part, level, ok, found, advice}' }),
    ...configFlags(Object.keys(OPTIONS) as OptionName[]),
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
