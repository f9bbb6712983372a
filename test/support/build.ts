import type { Build } from '../../src/lib/core/build.ts'

/** A build that runs, of a commit without refs; `rest` changes it. */
export function build(rest: Partial<Build> = {}): Build {
  return {
    id: 'b',
    sequence: 1,
    repository: 'acme/web',
    sha: 'a'.repeat(40),
    refs: [],
    defaultBranch: 'main',
    cache: true,
    tree: null,
    source: 'webhook',
    commit: null,
    pushOrder: 7,
    turn: { lane: 1, round: 0 },
    state: 'building',
    attempt: 1,
    error: null,
    errorKind: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    startedAt: '2026-01-01T00:00:01.000Z',
    completedAt: null,
    ...rest,
  }
}
