import { cancelBuild } from '../../client/builds.ts'
import type { Connection } from '../../client/connection.ts'

/** Cancels a build. Returns what has happened, for people. @throws ConveyorError */
export async function cancelCommand(connection: Connection, target: string): Promise<string> {
  const { id, repository, sha, state } = await cancelBuild(connection, target)
  const name = `build ${id} (${repository}@${sha.slice(0, 7)})`
  return state === 'cancelled' ? `${name} is cancelled` : `${name} is being stopped`
}
