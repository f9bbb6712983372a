import { randomBytes } from 'node:crypto'
import { appendFile, chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { ConveyorError } from '../core/errors.ts'
import type { BootstrapStep } from './step.ts'

/** Settings that differ between machines; empty in `.env.sample`. */
export interface SettingValues {
  githubSecret: string
  /** `user:password` of the API. */
  basicAuth: string
  postgresPassword: string
  /** The engine's socket on this machine, and the group that may access it. */
  dockerSocket: string
  dockerGid: string
  sshKey: string
}

/**
 * Writes the settings with new secrets, readable only by their owner. An existing file is kept, except that
 * credentials for the API are added if it comes from an earlier version without them.
 */
export async function settings(
  file: string,
  values: Omit<SettingValues, 'githubSecret' | 'basicAuth' | 'postgresPassword'>,
) {
  const secrets = { githubSecret: secret(), basicAuth: newLogin(), postgresPassword: secret() }
  try {
    await writeFile(file, settingsText({ ...values, ...secrets }), { mode: 0o600, flag: 'wx' })
    return {
      state: 'created',
      text: `settings ${file}, with a new GITHUB_SECRET and BASIC_AUTH`,
    } satisfies BootstrapStep
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return withLogin(file)
    throw new ConveyorError('invalid', `cannot write ${file}: ${message}`, {
      hint: 'Choose another file with --settings',
    })
  }
}

async function withLogin(file: string): Promise<BootstrapStep> {
  const text = await readFile(file, 'utf8')
  // It may be the .env file of another program.
  if (!lineOf('GITHUB_SECRET').test(text) || lineOf('BASIC_AUTH').test(text)) {
    return { state: 'ok', text: `settings ${file}` }
  }
  // Before the login is in it.
  await chmod(file, 0o600)
  await appendFile(file, `${text.endsWith('\n') ? '' : '\n'}\n${loginText(newLogin())}`)
  return { state: 'updated', text: `settings ${file}, added a BASIC_AUTH` }
}

/** A line that sets a variable, even to an empty value. */
const lineOf = (name: string) => new RegExp(`^(export )?${name}=`, 'm')

function newLogin(): string {
  return `conveyor:${secret()}`
}

function loginText(basicAuth: string): string {
  return `# The login for the API, logs, and pages; \`conveyor build\` finds it here. Without it, only this machine can
# connect, and a server in Docker Compose answers only GitHub.
BASIC_AUTH=${basicAuth}
`
}

/** The engine's socket and its group; empty for an engine that is not reached through a socket. */
export async function socketSettings(
  path: string | undefined,
): Promise<Pick<SettingValues, 'dockerSocket' | 'dockerGid'>> {
  if (!path) return { dockerSocket: '', dockerGid: '' }
  // On other systems, the engine runs in a virtual machine, in which root owns the socket.
  if (process.platform !== 'linux') return { dockerSocket: path, dockerGid: '0' }
  return { dockerSocket: path, dockerGid: await stat(path).then(groupOf, () => '') }
}

const groupOf = ({ gid }: { gid: number }) => String(gid)

function secret(): string {
  return randomBytes(32).toString('hex')
}

/** The file's text; `.env.sample` is the same with empty values. */
export function settingsText(values: SettingValues): string {
  return `# Conveyor's settings, for \`conveyor server\` and \`conveyor worker\` (set -a; . ./.env; set +a), and for
# \`docker compose up\`. To list all of them: conveyor server --help. Keep this file readable only for you.

# The webhook secret: GitHub signs its webhooks with it. \`conveyor setup\` enters it on GitHub.
GITHUB_SECRET=${values.githubSecret}

# The token of a bot account, to set commit statuses and read private repositories. Not needed with a GitHub App.
#GITHUB_TOKEN=

# To fetch over SSH instead of HTTPS. With Docker Compose, the key is /var/run/conveyor/.ssh/id_rsa.
#GIT_URL=git@github.com:{repository}.git
#GIT_SSH_KEY=${values.sshKey}

# Where images are pushed; log in with docker login. Docker Compose brings its own registry to get started.
#REGISTRY=ghcr.io/your-organization

# The URL under which people and GitHub reach this server.
#BASE_URL=https://conveyor.example.com

${loginText(values.basicAuth)}
# The repositories that may be built. Default: all.
#ALLOW=your-organization/*

# To build in containers of your own builder image, instead of directly in the engine.
#BUILDER_IMAGE=

# The rest is only for Docker Compose.

# Its database's password: any long text without spaces, $, @, :, or /.
POSTGRES_PASSWORD=${values.postgresPassword}

# The engine's socket and its group: stat -c %g /var/run/docker.sock; 0 with Docker Desktop.
DOCKER_SOCKET=${values.dockerSocket}
DOCKER_GID=${values.dockerGid}
`
}
