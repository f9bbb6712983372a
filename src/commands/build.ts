import { Args, Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { BUILD_EXIT_CODES, type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { PROGRESS_KINDS } from '../lib/cli/progress/view.ts'
import { ignoreClosedOutput, printResult } from '../lib/cli/standard-streams.ts'
import {
  loginInEnvironment,
  proxiesInEnvironment,
  terminalEnvironment,
} from '../lib/config/client-environment.ts'
import { optionsOf } from '../lib/config/options.ts'
import { hasPassword } from '../lib/config/passwords.ts'

export default class Build extends ConveyorCommand {
  static override summary = 'Build a commit, or the head of a branch, and print the image'
  static exitCodes: ExitCodes = {
    ...BUILD_EXIT_CODES,
    130: 'interrupted (Ctrl-C): a local build is cancelled, a build on the server continues',
    141: 'nothing reads the output anymore (| head -1); a build on the server continues',
  }
  static override description = withExitCodes(
    `The log is written to stderr, the image (name@sha256:...) to stdout. If the commit is already being built, the
command follows that build; if it has been built before, the image is printed immediately.`,
    Build.exitCodes,
  )
  static override usage = '<%= command.id %> TARGET [FLAGS]'
  static override examples = [
    'IMAGE=$(<%= config.bin %> <%= command.id %> acme/web:827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57)',
    '<%= config.bin %> <%= command.id %> acme/web:main --detach',
    '<%= config.bin %> <%= command.id %> acme/web:main --local --registry ghcr.io/acme',
  ]
  static override args = {
    target: Args.string({
      required: true,
      description:
        'Commit to build: OWNER/NAME:SHA, OWNER/NAME@SHA, OWNER/NAME:BRANCH, or OWNER/NAME:TAG for a git tag',
    }),
  }
  static override flags = {
    url: Flags.string({
      env: 'CONVEYOR_URL',
      default: 'http://localhost:8080',
      helpValue: '<url>',
      description: 'URL of the Conveyor server',
    }),
    auth: Flags.string({
      env: 'CONVEYOR_AUTH',
      helpValue: '<user:pass>',
      description:
        'Login for the server [default: BASIC_AUTH, or that in ./.env for a server on this machine or at its BASE_URL]',
    }),
    detach: Flags.boolean({
      char: 'd',
      description: 'Print the build ID and exit without waiting for the build',
      exclusive: ['local'],
    }),
    json: Flags.boolean({ description: 'Output the build as JSON' }),
    progress: Flags.option({
      env: 'CONVEYOR_PROGRESS',
      options: PROGRESS_KINDS,
      default: 'auto' as const,
      description: 'How to show the log: as it is, as steps in a terminal, or as one JSON object per line',
    })(),
    'no-cache': Flags.boolean({ description: 'Build without the cache' }),
    local: Flags.boolean({ description: 'Run the build in this process, without a server' }),
    ...configFlags(optionsOf('build'), 'LOCAL'),
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Build)
    this.hideArguments()
    if (flags.auth !== 'none') this.warnOfFlag('auth', 'CONVEYOR_AUTH', raw)
    if (hasPassword(flags.url)) this.warnOfFlag('url', 'CONVEYOR_AUTH', raw)
    // A local build must not depend on a reader of its output.
    if (flags.local) ignoreClosedOutput()
    const { buildCommand } = await import('../lib/cli/build-command.ts')
    const options = {
      ...flags,
      auth: flags.local ? undefined : flags.auth || loginInEnvironment(),
      target: args.target,
      proxies: proxiesInEnvironment(),
      cache: !flags['no-cache'],
      progress: { kind: flags.progress, environment: terminalEnvironment() },
      config: () => this.readConfig(flags, raw),
    }
    const { output, exitCode } = await buildCommand(options, process.stderr)
    await printResult(output)
    this.exit(exitCode)
  }
}
