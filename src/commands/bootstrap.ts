import { isAbsolute, join } from 'node:path'
import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { ConveyorError } from '../lib/core/errors.ts'

const STATES = { made: 'made', changed: 'changed', there: 'there already', missing: 'MISSING' }

export default class Bootstrap extends ConveyorCommand {
  static override description =
    `Prepare this machine: data directory, ssh key, settings, builder image, and the container with its secrets.

What is there already is left as it is, so it can be run again at any time. Whatever cannot be made is named with
what to do about it, everything else is made, and the exit code is 3.`
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --bucket s3://acme-conveyor-keys',
    '<%= config.bin %> <%= command.id %> --build-arg NODE_IMAGE=registry.example.com/node:24-slim',
  ]
  static override flags = {
    settings: Flags.string({
      default: '.env',
      helpValue: '<file>',
      description: 'where to write the settings',
    }),
    'ssh-dir': Flags.string({
      env: 'SSH_DIR',
      helpValue: '<dir>',
      description: 'folder of the ssh key, id_rsa and id_rsa.pub [default: DATA_DIR/ssh]',
    }),
    bucket: Flags.string({
      helpValue: '<url>',
      description: 'upload the ssh key to s3://BUCKET[/PREFIX] too, where machines in AWS fetch it',
    }),
    image: Flags.boolean({
      default: true,
      allowNo: true,
      description: 'build the builder image; --no-image where all builds run in the engine itself',
    }),
    'build-arg': Flags.string({
      multiple: true,
      helpValue: '<name=value>',
      description: "argument of the builder image's Dockerfile, such as NODE_IMAGE=IMAGE for its base",
    }),
    ...configFlags(['builder.image', 'builder.data', 'build.network', 'data-dir']),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Bootstrap)
    const [{ bootstrap }, { parseBuildArgs, parseKeyBucket }] = await Promise.all([
      import('../lib/bootstrap/bootstrap.ts'),
      import('../lib/bootstrap/flags.ts'),
    ])
    const config = this.readConfig({ ...flags, builder: 'image' }, raw)
    const { builder } = config
    if (builder.kind !== 'image') throw new ConveyorError('invalid', 'there is no builder image')
    const missing: string[] = []
    const keys = await bootstrap(
      {
        config,
        image: flags.image ? builder.image : null,
        data: builder.data,
        buildArgs: parseBuildArgs(flags['build-arg'] ?? []),
        settings: flags.settings,
        sshDir: flags['ssh-dir'] ?? join(config.dataDir, 'ssh'),
        bucket: flags.bucket === undefined ? null : parseKeyBucket(flags.bucket),
      },
      {
        tell: ({ state, text }) => {
          this.log(`${STATES[state].padEnd(13)}  ${text}`)
          if (state === 'missing') missing.push(text)
        },
        log: (text) => void process.stderr.write(text),
      },
    )
    if (keys) this.log(nextForKey(keys.publicKey))
    if (missing.length > 0) this.exit(3)
    this.log(nextForServer(flags.settings))
  }
}

function nextForKey(publicKey: string): string {
  return `
To fetch over ssh, give GitHub this key: to a bot account that may read the repositories (Settings, SSH and GPG keys),
or to a single repository (Settings, Deploy keys).

${publicKey.trim()}`
}

function nextForServer(settings: string): string {
  return `
Next:
  1. set -a; . ${isAbsolute(settings) ? '' : './'}${settings}; set +a; conveyor server      (or, in a checkout: docker compose up)
  2. In GitHub, add a webhook to the repository or the organization: URL of this server, content type
     application/json, the secret from ${settings}, just the push event.`
}
