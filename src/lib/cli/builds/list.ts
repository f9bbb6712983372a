import { type BuildQuery, listBuilds } from '../../client/builds.ts'
import type { Connection } from '../../client/connection.ts'
import { buildTable } from './output.ts'

/** The builds that match, as JSON or as a table, which is empty without builds. @throws ConveyorError */
export async function listCommand(connection: Connection, query: BuildQuery, json: boolean): Promise<string> {
  const builds = await listBuilds(connection, query)
  return json ? `${JSON.stringify(builds, null, 2)}\n` : buildTable(builds, new Date())
}
