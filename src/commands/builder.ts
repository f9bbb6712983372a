import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { outliveReaders } from '../lib/cli/standard-streams.ts'
import { BUILD_OPTIONS } from '../lib/config/options.ts'

export default class Builder extends ConveyorCommand {
  static override hidden = true
  static override description =
    `Build what REPOSITORY, SHA and BRANCH say: the entrypoint of the builder image.

A builder image of your own can begin with FROM this one, and run this command between its own steps.
The log goes to stdout. Exit codes are those of conveyor build.`
  static override flags = {
    repository: Flags.string({
      env: 'REPOSITORY',
      required: true,
      helpValue: '<owner/name>',
      description: 'what to build',
    }),
    sha: Flags.string({ env: 'SHA', required: true, helpValue: '<sha>', description: 'the commit' }),
    branch: Flags.string({
      env: 'BRANCH',
      default: '',
      helpValue: '<name>',
      description: 'its branch, for the tag and the cache; empty for none',
    }),
    cache: Flags.string({
      env: 'CACHE',
      options: ['on', 'off'],
      default: 'on',
      description: 'off builds every step anew',
    }),
    'cache-namespace': Flags.string({
      env: 'BUILDKIT_CACHE_MOUNT_NS',
      default: '',
      helpValue: '<namespace>',
      description: 'namespace of its cache mounts; empty for one that nothing else has',
    }),
    ...configFlags([
      ...BUILD_OPTIONS,
      'git.ssh-key',
      'git.known-hosts',
      'dry',
      'build.secrets',
      'timeout',
      'retry.delays',
      'data-dir',
    ]),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Builder)
    outliveReaders()
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
