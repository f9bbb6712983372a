import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { BUILD_EXIT_CODES, withExitCodes } from '../lib/cli/exit-codes.ts'
import { ignoreClosedOutput } from '../lib/cli/standard-streams.ts'
import { optionsOf } from '../lib/config/options.ts'

export default class Builder extends ConveyorCommand {
  static override hidden = true
  static override summary = 'Run one build: the entrypoint of the builder image'
  static exitCodes = BUILD_EXIT_CODES
  static override description = withExitCodes(
    `Configured through REPOSITORY, SHA, and BRANCH. A custom builder image can start FROM this one, and run this command
between steps of its own. The log is written to stdout.`,
    Builder.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override flags = {
    repository: Flags.string({
      env: 'REPOSITORY',
      required: true,
      helpValue: '<owner/name>',
      description: 'Repository to build',
    }),
    sha: Flags.string({ env: 'SHA', required: true, helpValue: '<sha>', description: 'Commit to build' }),
    branch: Flags.string({
      env: 'BRANCH',
      default: '',
      helpValue: '<name>',
      description: 'Branch of the commit, for the tag and the cache; may be empty',
    }),
    cache: Flags.string({
      env: 'CACHE',
      options: ['on', 'off'],
      default: 'on',
      description: 'Whether to use the build cache',
    }),
    'cache-namespace': Flags.string({
      env: 'BUILDKIT_CACHE_MOUNT_NS',
      default: '',
      helpValue: '<namespace>',
      description: 'Namespace of cache mounts; if empty, they are shared with no other build',
    }),
    ...configFlags(optionsOf('builder')),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Builder)
    ignoreClosedOutput()
    const { builderCommand } = await import('../lib/cli/builder-command.ts')
    const { repository, sha, branch, cache } = flags
    const options = {
      repository,
      sha,
      branch,
      cache: cache === 'on',
      cacheNamespace: flags['cache-namespace'],
    }
    this.exit(await builderCommand(options, this.readConfig(flags, raw), process.stdout))
  }
}
