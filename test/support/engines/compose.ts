import { projectRoot, start } from '../processes.ts'

/**
 * Runs a command of Docker Compose on a project.
 * @returns what it printed to stdout
 * @throws Error with what it printed to stderr when it fails
 */
export type Compose = (...args: string[]) => Promise<string>

/**
 * @param name of the project: what its containers, networks and volumes begin with
 * @param env DOCKER_HOST, and whatever the file wants to know that is not in `.env`
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
