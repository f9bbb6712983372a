import type { BuildJson } from '../../api/build.ts'
import { getBuild } from '../../client/builds.ts'
import type { Connection } from '../../client/connection.ts'
import { oneLine } from '../../core/one-line.ts'
import { refTitle } from '../../core/validate.ts'
import { buildText } from './follow.ts'
import { buildTimes } from './output.ts'

/** A build, as JSON or for people. @throws ConveyorError */
export async function statusCommand(connection: Connection, target: string, json: boolean): Promise<string> {
  const build = await getBuild(connection, target)
  return json ? buildText(build) : describe(build, `${connection.shownUrl}/builds/${build.id}`, new Date())
}

/** Name and value of each property that the build has, one per line. */
function describe(build: BuildJson, page: string, now: Date): string {
  const { commit, withheld = [] } = build
  const { took, ago } = buildTimes(build, now)
  const lines: [string, string | null][] = [
    ['build', build.id],
    ['state', took === '' ? build.state : `${build.state}, ${build.completed_at ? 'took' : 'for'} ${took}`],
    ['error', build.error],
    ['image', build.image],
    ['repository', build.repository],
    ['refs', build.refs.map(refTitle).join(', ')],
    ['commit', `${build.sha} ${commit?.title ?? ''}`.trim()],
    ['author', commit && (commit.login ? `${commit.author} (${commit.login})` : commit.author)],
    ['requested', `${build.created_at}, ${ago} ago${build.source ? `, by ${build.source}` : ''}`],
    ...withheld.map(({ tag, reason }): [string, string] => ['not moved', `${tag}: ${reason}`]),
    ['page', page],
  ]
  return lines
    .filter(([, value]) => value)
    .map(([name, value]) => `${name.padEnd(12)}${oneLine(value ?? '')}\n`)
    .join('')
}
