import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import type { Step, Timeline } from '../../src/lib/core/timeline.ts'
import { github } from '../../src/lib/forge/github/github.ts'
import { checkRunOf } from '../../src/lib/pipeline/checks/check-run.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { failed, push, request, succeeded } from '../store/contract/subject.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { tempDir } from '../support/temp.ts'

const TOKEN = 'ghs_of-an-installation'
/** What a summary is made of, as HTML. */
const ELEMENTS = ['a', 'code', 'p', 'pre', 'table', 'tbody', 'td', 'th', 'thead', 'tr']

let resources: AsyncDisposableStack
let double: GitHubDouble
let store: BuildStore
let lines: string[]
/** Of the store, in milliseconds. */
let clock: number
beforeEach(async () => {
  resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-checks-'))
  double = resources.use(await startGitHubDouble({ token: TOKEN }))
  clock = Date.now()
  store = await sqliteBuildStore({ file: join(folder.path, 'builds.db'), now: () => new Date(clock) })
  resources.defer(() => store.close())
  lines = []
})
afterEach(async () => {
  const { violations } = double
  await resources.disposeAsync()
  expect(violations).toEqual([])
})

/** One process that reports builds. */
function reporter(mode: 'on' | 'both' = 'on'): StatusReporter {
  const forge = github({ baseUrl: double.url, token: TOKEN, retryDelaysMs: [] })
  const log = (line: string) => void lines.push(line)
  const buildUrl = ({ id }: Build) => `https://conveyor.example.com/builds/${id}`
  return new StatusReporter({ forge, store, buildUrl, log, waitsMs: [], checks: { forge, mode } })
}

async function report(reporter: StatusReporter, build: Build): Promise<void> {
  reporter.report(build)
  await reporter.idle()
}

/** A build that has begun. */
async function begun(asked = push('main')): Promise<Build> {
  const { build } = await store.accept(asked)
  const claimed = await store.claim(build.id)
  if (!claimed) throw new Error('it cannot be claimed')
  return claimed
}

async function end(build: Build, result = succeeded()): Promise<Build> {
  expect(await store.finish(build.id, build.attempt, build.refs.length, result)).toBe('finished')
  return (await store.get(build.id)) as Build
}

const runs = () => double.checks.runs.map(({ external_id, history }) => [external_id, ...history])

describe('a build is one check run', () => {
  test('from the first report to the last, and no status', async () => {
    const statuses = reporter()
    const build = await begun()
    await report(statuses, build)
    await report(statuses, await end(build, failed('it broke')))
    expect(double.checks.runs).toMatchObject([
      {
        external_id: build.id,
        conclusion: 'failure',
        title: 'it broke',
        history: ['in_progress', 'completed'],
      },
    ])
    expect(double.statuses).toEqual([])
    expect(await store.unreported()).toEqual([])
  })

  test('which is neutral, without a status, if the repository never had a Dockerfile', async () => {
    const without = { ...failed('no Dockerfile in the root'), noDockerfile: true }
    for (const mode of ['on', 'both'] as const) {
      const sha = (mode === 'on' ? 'c' : 'd').repeat(40)
      await report(reporter(mode), await end(await begun(push('main', { sha })), without))
      expect(double.checks.runs.at(-1)).toMatchObject({ conclusion: 'neutral', history: ['completed'] })
    }
    expect(double.statuses).toEqual([])
    expect(await store.unreported()).toEqual([])
  })

  test('when several processes report it at the same time', async () => {
    const build = await begun()
    const all = Array.from({ length: 5 }, () => reporter())
    await Promise.all(all.map((one) => report(one, build)))
    expect(double.checks.runs).toHaveLength(1)
  })

  test('after a crash between its creation and the record of it', async () => {
    const build = await begun()
    const before = reporter()
    double.loseAnswers(1)
    await report(before, build)
    expect(runs()).toEqual([[build.id, 'in_progress']])
    await report(reporter(), await end(build))
    expect(runs()).toEqual([[build.id, 'in_progress', 'completed']])
  })

  test('even if its process died while it was made', async () => {
    const build = await begun()
    await report(reporter(), build)
    // As if the store did not know what came of it.
    await store.checkRuns.settle(build.id, 'unknown')
    const ended = await end(build)
    const at = Date.now()
    clock = at + 200_000
    await report(reporter(), ended)
    expect(runs()).toEqual([[build.id, 'in_progress', 'completed']])
  })

  test('that the sweep completes after an outage', async () => {
    const statuses = reporter()
    const build = await begun()
    await report(statuses, build)
    double.failAlways(502)
    await report(statuses, await end(build))
    expect(await store.unreported()).toHaveLength(1)
    double.failAlways(null)
    await reporter().sweep()
    expect(runs()).toEqual([[build.id, 'in_progress', 'completed']])
    expect(await store.unreported()).toEqual([])
  })

  test('that ends although the commit has a newer build by now', async () => {
    const statuses = reporter()
    const first = await begun()
    await report(statuses, first)
    const ended = await end(first, failed('cancelled by ada', 'cancelled'))
    const second = await begun(request())
    await report(statuses, second)
    await report(statuses, ended)
    expect(runs()).toEqual([
      [first.id, 'in_progress', 'completed'],
      [second.id, 'in_progress'],
    ])
    expect(double.checks.runs[0]?.conclusion).toBe('cancelled')
  })
})

describe('builds that wait', () => {
  test('get a check run after some seconds, which their start continues', async () => {
    const statuses = reporter()
    const { build } = await store.accept(push('main'))
    await statuses.reportQueued()
    expect(runs()).toEqual([])
    clock += 4000
    await Promise.all([statuses.reportQueued(), reporter().reportQueued()])
    expect(runs()).toEqual([[build.id, 'queued']])
    await statuses.reportQueued()
    const claimed = (await store.claim(build.id)) as Build
    await report(statuses, claimed)
    await report(statuses, await end(claimed))
    expect(runs()).toEqual([[build.id, 'queued', 'in_progress', 'completed']])
  })
})

describe('where the forge refuses check runs', () => {
  test('a build has commit statuses from its first report to its last, also once there is the permission', async () => {
    double.checks.denied.add('acme/app')
    const build = await begun()
    const statuses = reporter()
    await report(statuses, build)
    double.checks.denied.clear()
    await report(reporter(), await end(build))
    expect(double.statuses.map(({ state }) => state)).toEqual(['pending', 'success'])
    expect(runs()).toEqual([])
    expect(lines).toEqual([
      expect.stringMatching(/^acme\/app: GitHub accepts no check runs .*: commit statuses are set/),
    ])
  })

  test('it is not asked again for every build, nor for those that wait', async () => {
    double.checks.denied.add('acme/app')
    const statuses = reporter()
    for (const sha of ['1', '2', '3']) {
      const { build } = await store.accept(push('main', { sha: sha.repeat(40) }))
      clock += 4000
      await statuses.reportQueued()
      const claimed = (await store.claim(build.id)) as Build
      await report(statuses, await end(claimed))
    }
    const asked = double.requests.filter(({ path }) => path.endsWith('/check-runs'))
    expect(asked).toHaveLength(1)
    expect(double.statuses).toHaveLength(3)
  })

  test('a commit that GitHub does not know yet is no refusal', async () => {
    const build = await begun()
    const unknown = { body: { message: 'No commit found for SHA: a', documentation_url: '', status: '422' } }
    double.failNext(1, 422, unknown)
    const statuses = reporter()
    await report(statuses, build)
    await report(statuses, await end(build))
    expect(runs()).toEqual([[build.id, 'completed']])
    expect(double.statuses).toEqual([])
  })
})

test('with both, there is a status beside the check run', async () => {
  const statuses = reporter('both')
  const build = await begun()
  await report(statuses, build)
  await report(statuses, await end(build))
  expect(runs()).toEqual([[build.id, 'in_progress', 'completed']])
  expect(double.statuses.map(({ state }) => state)).toEqual(['pending', 'success'])
})

const STEP: Step = {
  number: 5,
  name: '[2/3] COPY . .',
  digest: `sha256:${'a'.repeat(64)}`,
  inputs: [],
  startedAt: '2030-01-02T03:04:05.678Z',
  completedAt: '2030-01-02T03:04:06.678Z',
  state: 'done',
  error: null,
  warnings: [],
}
const TIMELINE: Timeline = {
  attempt: 1,
  phases: [
    { name: 'look up', startedAt: '2030-01-02T03:04:05.678Z', ms: 12.5 },
    { name: 'build', startedAt: '2030-01-02T03:04:05.678Z', ms: 2345, note: '0 of 1 step cached' },
  ],
  steps: [STEP],
  critical: [],
  missed: null,
  made: null,
}

async function checked(build: Build, timeline: Timeline | null) {
  const artifact = await store.artifactOf(build.id)
  return checkRunOf({ build, title: 'x', detailsUrl: 'https://conveyor.example.com/1', timeline, artifact })
}

/** As GitHub renders it, with its own renderer, before it removes what is not allowed. */
function rendered(markdown: string): string {
  const args = ['--unsafe', '-e', 'table', '-e', 'autolink', '-e', 'strikethrough', '-e', 'tasklist']
  return execFileSync('cmark-gfm', args, { input: markdown, encoding: 'utf8' })
}

/** The text in HTML, and the names of its elements. */
function readHtml(html: string): { text: string; elements: Set<string> } {
  const elements = new Set([...html.matchAll(/<([a-z0-9]+)/gi)].map(([, name = '']) => name.toLowerCase()))
  const entities: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"' }
  const text = html
    .replace(/<[^>]*>/g, '')
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&(\w+);/g, (_, name: string) => entities[name] ?? '?')
  return { text, elements }
}

describe('what a check run says', () => {
  const HOSTILE = [
    '</pre></code><script>alert(1)</script>',
    '[link](https://evil.example) ![image](https://evil.example/x.png)',
    '@acme/everyone #1 GH-1 **bold** `` ` ``` ~~~ | cell | <!-- https://evil.example',
    '<details> \\` &lt; &#96; :tada: - [ ] task',
  ]

  test('of a success: the image, its tags, the times, and why a step was not cached', async () => {
    const build = await end(
      await begun(),
      succeeded(['registry.test:5000/acme/app:main', 'registry.test:5000/acme/app:v1']),
    )
    const causes = [{ kind: 'file' as const, path: 'src/a.ts', change: 'changed' as const }]
    const missed = { step: 5, name: STEP.name, causes, more: 0, comparedWith: null }
    const run = await checked(build, { ...TIMELINE, missed })
    expect(run).toMatchObject({ status: 'completed', conclusion: 'success', annotations: [] })
    const { text, elements } = readHtml(rendered(run.summary))
    expect(text).toContain(`docker pull registry.test/acme/app@sha256:${'0'.repeat(64)}`)
    expect(text).toContain('Tags: main, v1')
    expect(text).toContain('0 of 1 step was cached.')
    expect(text).toContain('not cached: #5 COPY . .: 1 file changed: src/a.ts')
    expect(text).toMatch(/build\s+2\.35 s\s+0 of 1 step cached/)
    expect([...elements].sort()).toEqual(ELEMENTS)
  })

  test('of a failure: the error, the lines of the Dockerfile, and annotations there and at warnings', async () => {
    const build = await end(await begun(), failed('process "/bin/false" did not complete successfully'))
    const excerpt = {
      file: 'docker/Dockerfile',
      lines: [
        { number: 2, text: 'FROM x', failed: false },
        { number: 3, text: 'RUN a && \\', failed: true },
        { number: 4, text: '    false', failed: true },
      ],
      more: 0,
    }
    const warning = (file: string | null, line: number | null) => ({
      ...{ message: 'Old form', detail: ['use another'], url: 'https://docs.example/x', file, line },
    })
    const warnings = [
      warning('docker/Dockerfile', 2),
      warning(null, 3),
      warning('/etc/x', 1),
      warning('a/../b', 1),
    ]
    const run = await checked(build, { ...TIMELINE, excerpt, steps: [{ ...STEP, warnings }] })
    expect(run.conclusion).toBe('failure')
    const { text } = readHtml(rendered(run.summary))
    expect(text).toContain('process "/bin/false" did not complete successfully')
    expect(text).toContain(
      'docker/Dockerfile\n       2 | FROM x\n>>>    3 | RUN a && \\\n>>>    4 |     false',
    )
    expect(run.annotations).toEqual([
      {
        ...{ path: 'docker/Dockerfile', startLine: 3, endLine: 4, level: 'failure' },
        ...{ title: 'The build failed here', message: 'process "/bin/false" did not complete successfully' },
      },
      {
        ...{ path: 'docker/Dockerfile', startLine: 2, endLine: 2, level: 'warning' },
        ...{ title: 'Dockerfile', message: 'Old form\nuse another\nhttps://docs.example/x' },
      },
    ])
  })

  test('contains no markup of the repository', async () => {
    for (const hostile of [...HOSTILE, HOSTILE.join('\n\n')]) {
      const build = await end(await begun(request()), failed(hostile))
      const lines = hostile.split('\n').map((text, at) => ({ number: at + 1, text, failed: at === 0 }))
      const note = { ...(TIMELINE.phases[1] as Timeline['phases'][number]), note: hostile }
      const causes = [{ kind: 'file' as const, path: hostile, change: 'changed' as const }]
      const missed = { step: 5, name: hostile, causes, more: 0, comparedWith: null }
      const excerpt = { file: hostile.replaceAll('\n', ' '), lines, more: 0 }
      const { summary } = await checked(build, { ...TIMELINE, missed, excerpt, phases: [note] })
      const html = rendered(summary)
      const { text, elements } = readHtml(html)
      expect([...elements].sort()).toEqual(ELEMENTS)
      expect([...html.matchAll(/href="([^"]*)"/g)].map(([, url]) => url)).toEqual([
        'https://conveyor.example.com/1',
      ])
      for (const line of hostile.split('\n')) expect(text).toContain(line)
      // GitHub mentions nobody and links nothing in code.
      const outside = html.replace(/<(code|pre)>.*?<\/\1>/gs, '')
      expect(outside).not.toMatch(/acme|GH-|evil|tada/)
    }
  })

  test('of a repository that never had a Dockerfile: nothing that fails', async () => {
    const build = await end(await begun(), failed('there is no Dockerfile'))
    expect((await checked({ ...build, neutral: true }, null)).conclusion).toBe('neutral')
  })

  test.each([
    ['timeout', 'timed_out'],
    ['unavailable', 'failure'],
    ['invalid', 'failure'],
  ] as const)('%s is the conclusion %s', async (errorKind, conclusion) => {
    const build = await end(await begun(), { state: 'failed', error: 'x', errorKind })
    expect((await checked(build, null)).conclusion).toBe(conclusion)
  })
})
