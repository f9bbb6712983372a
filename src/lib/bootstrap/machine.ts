import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import type { BootstrapStep } from './step.ts'

/** Creates the data directory, accessible only to its owner. */
export async function dataDirectory(dir: string): Promise<BootstrapStep> {
  try {
    const made = await mkdir(dir, { recursive: true, mode: 0o700 })
    return { state: made ? 'created' : 'ok', text: `data directory ${dir}` }
  } catch (error) {
    const hint = 'Choose another one with --data-dir (DATA_DIR)'
    throw new ConveyorError('invalid', `cannot create ${dir}: ${(error as Error).message}`, { hint })
  }
}

/** Checks that git is on the PATH. */
export async function git(): Promise<BootstrapStep> {
  try {
    const { stdout } = await promisify(execFile)('git', ['--version'])
    return { state: 'ok', text: stdout.trim() }
  } catch (cause) {
    throw new ConveyorError('unavailable', 'not found', { hint: 'Install it (apt-get install git)', cause })
  }
}

/** Checks that the engine is new enough. */
export async function engine(docker: Dockerode): Promise<BootstrapStep> {
  const version = await docker.version().catch((cause: Error) => {
    const hint = 'Start it, or set DOCKER_HOST'
    throw new ConveyorError('unavailable', `not reachable (${cause.message})`, { hint, cause })
  })
  if (Number(version.ApiVersion) < 1.41) {
    throw new ConveyorError('invalid', `${version.Version} is too old`, {
      hint: 'Install Docker 20.10 or newer',
    })
  }
  return { state: 'ok', text: `Docker engine ${version.Version}` }
}
