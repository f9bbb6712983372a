import type { BuildJson } from '../../api/build.ts'
import { refsLabel } from '../../core/validate.ts'
import { table } from '../table.ts'

/** In characters. */
const LONGEST_TITLE = 50

/** Builds as a table for a terminal. */
export function buildTable(builds: readonly BuildJson[], now: Date): string {
  const rows = builds.map((build) => [
    build.id.slice(0, 8),
    build.state,
    build.repository,
    refsLabel(build.refs),
    build.sha.slice(0, 7),
    shortened(build.commit?.title ?? ''),
    buildTimes(build, now).took,
    `${buildTimes(build, now).ago} ago`,
  ])
  return table(['ID', 'STATE', 'REPOSITORY', 'REF', 'COMMIT', 'TITLE', 'TOOK', 'REQUESTED'], rows)
}

/** How long a build has been running, or ran (empty if it has not started), and how long ago it was requested. */
export function buildTimes(build: BuildJson, now: Date): { took: string; ago: string } {
  const { started_at: started, completed_at: completed, created_at: created } = build
  const end = completed === null ? now.getTime() : Date.parse(completed)
  return {
    took: started === null ? '' : span(end - Date.parse(started)),
    ago: span(now.getTime() - Date.parse(created)),
  }
}

function shortened(title: string): string {
  return title.length <= LONGEST_TITLE ? title : `${title.slice(0, LONGEST_TITLE - 1).toWellFormed()}…`
}

/** `0.6s`, `42s`, `3m`, `5h`, `12d`. */
function span(ms: number): string {
  const seconds = Math.max(0, ms) / 1000
  if (seconds < 10) return `${seconds.toFixed(1)}s`
  if (seconds < 120) return `${Math.round(seconds)}s`
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)}m`
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`
}
