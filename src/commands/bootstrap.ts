import { isAbsolute, join } from 'node:path'
import { Flags } from '@oclif/core'
import { ConveyorCommand, configFlags } from '../lib/cli/base-command.ts'
import { type ExitCodes, withExitCodes } from '../lib/cli/exit-codes.ts'
import { optionsOf } from '../lib/config/options.ts'

const STATES = { created: 'created', updated: 'updated', ok: 'ok', missing: 'MISSING' }

export default class Bootstrap extends ConveyorCommand {
  static override summary = 'Prepare this machine: data directory, SSH key, settings, and builder image'
  static exitCodes: ExitCodes = {
    0: 'everything is set up',
    2: 'invalid flags',
    3: 'something could not be created',
  }
  static override description = withExitCodes(
    `Also creates the container with the secrets of the builder image. Existing files, images, and containers are left
unchanged, so the command can be run again at any time. If something cannot be created, its line says how to fix that,
and everything else is created.`,
    Bootstrap.exitCodes,
  )
  static override usage = '<%= command.id %> [FLAGS]'
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --bucket s3://acme-conveyor-keys',
    '<%= config.bin %> <%= command.id %> --build-arg NODE_IMAGE=registry.example.com/node:24-slim',
  ]
  static override flags = {
    settings: Flags.string({
      default: '.env',
      helpValue: '<file>',
      description: 'File to write settings to',
    }),
    'ssh-dir': Flags.string({
      env: 'SSH_DIR',
      helpValue: '<dir>',
      description: 'Directory of the SSH key pair, id_rsa and id_rsa.pub [default: DATA_DIR/ssh]',
    }),
    bucket: Flags.string({
      helpValue: '<url>',
      description: 'Upload the SSH key to s3://BUCKET[/PREFIX] for machines in AWS',
    }),
    image: Flags.boolean({
      default: true,
      allowNo: true,
      description: 'Build the builder image; --no-image if all builds run in the engine itself',
    }),
    'build-arg': Flags.string({
      multiple: true,
      helpValue: '<name=value>',
      description: "Build argument for the builder image's Dockerfile, such as NODE_IMAGE=IMAGE for its base",
    }),
    ...configFlags(optionsOf('bootstrap')),
  }

  async run(): Promise<void> {
    const { flags, raw } = await this.parse(Bootstrap)
    const [{ bootstrap }, { parseBuildArgs, parseKeyBucket }] = await Promise.all([
      import('../lib/bootstrap/bootstrap.ts'),
      import('../lib/bootstrap/flags.ts'),
    ])
    const config = this.readConfig({ ...flags, builder: 'image' }, raw)
    const { builder } = config
    if (builder.kind !== 'image') throw new Error('--builder image has been ignored')
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
        report: ({ state, text }) => {
          this.log(`${STATES[state].padEnd(7)}  ${text}`)
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
To fetch over SSH, add this key on GitHub: to a bot account with read access to the repositories (Settings > SSH and
GPG keys), or to a single repository (Settings > Deploy keys).

${publicKey.trim()}`
}

function nextForServer(settings: string): string {
  return `
Next:
  1. set -a; . ${isAbsolute(settings) ? '' : './'}${settings}; set +a; conveyor server      (or, in a checkout: docker compose up)
  2. conveyor setup OWNER/NAME      (or ORG: adds the webhook on GitHub; without either, makes a GitHub App)`
}
