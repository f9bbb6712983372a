import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import type { Step } from './step.ts'

/** Makes the data directory, for its owner only. */
export async function dataDirectory(dir: string): Promise<Step> {
  try {
    const made = await mkdir(dir, { recursive: true, mode: 0o700 })
    return { state: made ? 'made' : 'there', text: `data directory ${dir}` }
  } catch (error) {
    const hint = 'Give another one with --data-dir (DATA_DIR)'
    throw new ConveyorError('invalid', `cannot make ${dir}: ${(error as Error).message}`, { hint })
  }
}

/** Git, as Conveyor will find it. */
export async function git(): Promise<Step> {
  try {
    const { stdout } = await promisify(execFile)('git', ['--version'])
    return { state: 'there', text: stdout.trim() }
  } catch (cause) {
    throw new ConveyorError('unavailable', 'not found', { hint: 'Install it (apt-get install git)', cause })
  }
}

/** An engine that is new enough. */
export async function engine(docker: Dockerode): Promise<Step> {
  const version = await docker.version().catch((cause: Error) => {
    const hint = 'Start it, or set DOCKER_HOST'
    throw new ConveyorError('unavailable', `no answer (${cause.message})`, { hint, cause })
  })
  if (Number(version.ApiVersion) < 1.41) {
    throw new ConveyorError('invalid', `${version.Version} is too old`, {
      hint: 'Conveyor needs 20.10 or newer',
    })
  }
  return { state: 'there', text: `Docker engine ${version.Version}` }
}
