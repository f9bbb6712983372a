import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import Dockerode from 'dockerode'
import type { Config } from './config.ts'
import { ConveyorError } from './errors.ts'

/** One thing that bootstrap made, found, or could not find. */
export interface Step {
  ok: boolean
  /** For the terminal: what it is and how it stands. */
  text: string
}

/**
 * Prepares a machine to run the server: the data directory, an env file with a fresh webhook secret, and
 * a check of what Conveyor builds with. Changes nothing that is there already.
 * @param envFile where to write the settings
 */
export async function bootstrap(config: Config, envFile: string): Promise<Step[]> {
  return [await dataDirectory(config.dataDir), await settings(envFile), await git(), await engine()]
}

async function dataDirectory(dir: string): Promise<Step> {
  try {
    const made = await mkdir(dir, { recursive: true, mode: 0o700 })
    return { ok: true, text: `data directory ${dir}: ${made ? 'made' : 'there already'}` }
  } catch (error) {
    const hint = 'Give another one with --data-dir (DATA_DIR)'
    throw new ConveyorError('invalid', `can not make ${dir}: ${(error as Error).message}`, { hint })
  }
}

async function settings(file: string): Promise<Step> {
  try {
    await writeFile(file, envTemplate(randomBytes(32).toString('hex')), { mode: 0o600, flag: 'wx' })
    return { ok: true, text: `settings ${file}: written, with a new GITHUB_SECRET` }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      return { ok: true, text: `settings ${file}: there already, left as they are` }
    }
    throw new ConveyorError('invalid', `can not write ${file}: ${(error as Error).message}`)
  }
}

async function git(): Promise<Step> {
  try {
    const { stdout } = await promisify(execFile)('git', ['--version'])
    return { ok: true, text: stdout.trim() }
  } catch {
    return { ok: false, text: 'git: not found. Install it (apt-get install git)' }
  }
}

async function engine(): Promise<Step> {
  try {
    const { Version, ApiVersion } = await new Dockerode().version()
    return Number(ApiVersion) >= 1.41
      ? { ok: true, text: `Docker engine ${Version}` }
      : { ok: false, text: `Docker engine ${Version}: too old. Conveyor needs 20.10 or newer` }
  } catch (error) {
    const why = (error as Error).message
    return { ok: false, text: `Docker engine: no answer (${why}). Start it, or set DOCKER_HOST` }
  }
}

function envTemplate(secret: string): string {
  return `# Settings of the conveyor server; all of them: conveyor server --help

# GitHub signs its webhooks with this. Give it to GitHub as the webhook's secret.
GITHUB_SECRET=${secret}

# A token of a bot account: sets commit statuses, and reads private repositories.
#GITHUB_TOKEN=

# Where images go; log in with docker login.
#REGISTRY=ghcr.io/your-organization

# How people and GitHub reach this server.
#BASE_URL=https://conveyor.example.com

# Ask for these credentials on the API and the logs.
#BASIC_AUTH=user:password
`
}
