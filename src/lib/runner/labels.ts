import type { BuildContainer, RunInput } from './runner.ts'

const BUILD = 'conveyor.build'
const ATTEMPT = 'conveyor.attempt'

/** The labels of a build's container or service, so that it can be found without the process that started it. */
export function labelsOf({ buildId, attempt, repository, sha }: RunInput): Record<string, string> {
  return {
    [BUILD]: buildId,
    [ATTEMPT]: String(attempt),
    'conveyor.repository': repository,
    'conveyor.sha': sha,
  }
}

/** What to look for: the containers and services of one build, or of all. */
export function buildLabel(buildId?: string): string {
  return buildId === undefined ? BUILD : `${BUILD}=${buildId}`
}

/** Which attempt at which build has these labels. */
export function labelled(labels: Record<string, string> = {}): Pick<BuildContainer, 'buildId' | 'attempt'> {
  const attempt = Number(labels[ATTEMPT])
  return { buildId: labels[BUILD] ?? '', attempt: attempt > 0 ? attempt : null }
}
