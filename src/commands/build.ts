import { Args, Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { outliveReaders, printResult } from '../lib/cli/standard-streams.ts'
import { BUILD_OPTIONS, type OptionName } from '../lib/config/options.ts'
import { secretInFile } from '../lib/config/secret-files.ts'
import { hasPassword } from '../lib/config/values.ts'
import { proxiesOf } from '../lib/net/proxies.ts'

const LOCAL: OptionName[] = [
  'github.token',
  'github.url',
  ...BUILD_OPTIONS,
  'git.ssh-key',
  'git.known-hosts',
  'dry',
  'builder',
  'buildkit.addr',
  'buildkit.tls',
  'build.ssh',
  'build.secrets',
  'timeout',
  'retry.delays',
  'data-dir',
]

export default class Build extends ConveyorCommand {
  static override description = `Build a commit, or the head of a branch, and print the image.

The log goes to stderr, the image (name@sha256:...) to stdout. A build that is under way is joined, one that has
succeeded is answered at once.

Exit codes: 0 built; 1 the build failed; 2 the request cannot be right; 3 the server, or another part that is
needed, does not answer; 130 it was stopped (Ctrl-C), which ends a local build and leaves a server's to go on.`
  static override examples = [
    'IMAGE=$(<%= config.bin %> <%= command.id %> acme/web:827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57)',
    '<%= config.bin %> <%= command.id %> acme/web:main --detach',
    '<%= config.bin %> <%= command.id %> acme/web:main --local --registry ghcr.io/acme',
  ]
  static override args = {
    target: Args.string({
      required: true,
      description:
        'what to build: OWNER/NAME:SHA, OWNER/NAME@SHA, OWNER/NAME:BRANCH, or a git tag in place of the branch',
    }),
  }
  static override flags = {
    url: Flags.string({
      env: 'CONVEYOR_URL',
      default: 'http://localhost:8080',
      helpValue: '<url>',
      description: 'the conveyor server',
    }),
    auth: Flags.string({
      env: 'CONVEYOR_AUTH',
      helpValue: '<user:pass>',
      description:
        'credentials for the server [default: BASIC_AUTH, or that of ./.env for a server on this machine or at its BASE_URL]',
    }),
    detach: Flags.boolean({
      char: 'd',
      description: 'do not wait: print the id of the build',
      exclusive: ['local'],
    }),
    json: Flags.boolean({ description: 'print the build as JSON' }),
    'no-cache': Flags.boolean({ description: 'build every step anew' }),
    local: Flags.boolean({ description: 'run the whole build in this process, without a server' }),
    ...configFlags(LOCAL, 'LOCAL'),
  }

  async run(): Promise<void> {
    const { args, flags, raw } = await this.parse(Build)
    this.hideArguments()
    if (flags.auth !== 'none') this.warnOfFlag('auth', 'CONVEYOR_AUTH', raw)
    if (hasPassword(flags.url)) this.warnOfFlag('url', 'CONVEYOR_AUTH', raw)
    const { env } = process
    const given = () =>
      flags.auth || secretInFile('CONVEYOR_AUTH', env) || env.BASIC_AUTH || secretInFile('BASIC_AUTH', env)
    // Nobody else ends what runs here.
    if (flags.local) outliveReaders()
    const { buildCommand } = await import('../lib/cli/build-command.ts')
    const options = {
      ...flags,
      auth: flags.local ? undefined : given(),
      target: args.target,
      proxies: proxiesOf(env),
      cache: !flags['no-cache'],
      config: () => this.readConfig(flags, raw),
    }
    const { output, exitCode } = await buildCommand(options, process.stderr)
    await printResult(output)
    this.exit(exitCode)
  }
}
