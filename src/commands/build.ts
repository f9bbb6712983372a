import { Args, Flags } from '@oclif/core'
import { configFlags } from '../lib/cli/base-command.ts'
import { BUILD_EXIT_CODES, type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { PROGRESS_FLAGS } from '../lib/cli/progress/flags.ts'
import { SERVER_FLAGS, ServerCommand } from '../lib/cli/server-command.ts'
import { ignoreClosedOutput, printResult } from '../lib/cli/standard-streams.ts'
import {
  proxiesInEnvironment,
  terminalEnvironment,
  traceInEnvironment,
} from '../lib/config/client/environment.ts'
import { optionsOf } from '../lib/config/options.ts'

export default class Build extends ServerCommand {
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
    '<%= config.bin %> <%= command.id %> acme/web@827fecd --pull 7',
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
    ...SERVER_FLAGS,
    detach: Flags.boolean({
      char: 'd',
      description: 'Print the build ID and exit without waiting for the build',
      exclusive: ['local'],
    }),
    json: Flags.boolean({ description: 'Output the build as JSON' }),
    ...PROGRESS_FLAGS,
    pull: Flags.integer({
      helpValue: '<number>',
      description:
        'Number of the pull request that the commit is the head of; a fork is built without secrets',
      min: 1,
      exclusive: ['local'],
    }),
    'no-cache': Flags.boolean({ description: 'Build without the cache' }),
    local: Flags.boolean({ description: 'Run the build in this process, without a server' }),
    ...configFlags(optionsOf('build'), 'LOCAL'),
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Build)
    const auth = this.login(flags, raw)
    // A local build must not depend on a reader of its output.
    if (flags.local) ignoreClosedOutput()
    const { buildCommand } = await import('../lib/cli/build-command.ts')
    const options = {
      ...flags,
      auth: flags.local ? undefined : auth,
      target: args.target,
      proxies: proxiesInEnvironment(),
      trace: traceInEnvironment(),
      cache: !flags['no-cache'],
      progress: { kind: flags.progress, environment: terminalEnvironment() },
      config: () => this.readConfig(flags, raw),
    }
    const { output, exitCode } = await buildCommand(options, process.stderr)
    await printResult(output)
    this.exit(exitCode)
  }
}
