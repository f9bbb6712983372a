import { retryBuild } from '../../client/builds.ts'
import type { ClientOptions } from '../../client/client.ts'
import type { Connection } from '../../client/connection.ts'
import { untilStopped } from '../../util/lifecycle.ts'
import { type CommandResult, follow, requested, type ShowOptions, showBuild } from './follow.ts'

interface RetryOptions extends Omit<ShowOptions, 'title'>, Pick<ClientOptions, 'url' | 'auth' | 'proxies'> {
  target: string
  /** Undefined: as in the build itself. */
  cache: boolean | undefined
  detach: boolean
}

/** `conveyor retry`. @throws ConveyorError if the build cannot be started or followed; a failed build is a result */
export async function retryCommand(connection: Connection, options: RetryOptions): Promise<CommandResult> {
  const { url, auth, proxies, target, cache, detach, json, progress } = options
  const build = await retryBuild(connection, target, cache)
  if (detach) return requested(build, json, process.stderr)
  const client = { url, auth, proxies, request: build, signal: untilStopped() }
  const title = `building ${build.repository}@${build.sha.slice(0, 7)}`
  return await showBuild((view) => follow(client, view), { title, json, progress }, process.stderr)
}
