import { projectRoot, start } from '../processes.ts'

/**
 * Runs a Docker Compose command on a project.
 * @returns its stdout
 * @throws Error with its stderr if it fails
 */
export type Compose = (...args: string[]) => Promise<string>

/**
 * @param name of the project: the prefix of its containers, networks and volumes
 * @param env DOCKER_HOST, and variables of the file that are not in `.env`
 */
export function composeIn(cwd: string, name: string, env: Record<string, string>): Compose {
  return async (...args) => {
    const all = ['--project-name', name, '--ansi', 'never', '--progress', 'plain', ...args]
    const environment = { PATH: process.env.PATH, HOME: process.env.HOME, ...env }
    await using running = await start(`${projectRoot}bin/docker-compose.sh`, all, { cwd, env: environment })
    const { code } = await running.exited
    if (code === 0) return running.stdout()
    throw new Error(`docker compose ${args.join(' ')} ended with status ${code}: ${running.stderr()}`)
  }
}
