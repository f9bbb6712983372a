import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CheckAnnotation, CheckRun } from '../../src/lib/forge/forge.ts'
import { github } from '../../src/lib/forge/github/github.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'

const TOKEN = `ghs_${'an.installation.token.'.repeat(10)}`
const SHA = 'a'.repeat(40)

const RUN: CheckRun = {
  repository: 'Acme/App',
  sha: SHA,
  buildId: '0b8f2a3e-6c1d-4c53-8f0b-0a1b2c3d4e5f',
  status: 'in_progress',
  conclusion: null,
  startedAt: '2030-01-02T03:04:05.678Z',
  completedAt: null,
  detailsUrl: 'https://conveyor.example.com/builds/1',
  title: 'Image building.',
  summary: 'x',
  annotations: [],
  actions: [{ identifier: 'cancel', label: 'Cancel', description: 'Cancel this build' }],
}
const annotation = (line: number): CheckAnnotation => ({
  path: 'Dockerfile',
  startLine: line,
  endLine: line,
  level: 'warning',
  title: 'Dockerfile',
  message: `line ${line}`,
})
const failed = (annotations: number): CheckRun => ({
  ...RUN,
  status: 'completed',
  conclusion: 'failure',
  completedAt: '2030-01-02T03:04:06.000Z',
  title: `${'very long '.repeat(50)}\nand with a second line`,
  summary: '☃'.repeat(70_000),
  annotations: Array.from({ length: annotations }, (_, at) => annotation(at + 1)),
  actions: [],
})

let double: GitHubDouble
beforeEach(async () => {
  double = await startGitHubDouble({ token: TOKEN })
})
afterEach(async () => {
  const { violations } = double
  await double[Symbol.asyncDispose]()
  expect(violations).toEqual([])
})

const forge = () => github({ baseUrl: double.url, token: TOKEN, context: 'image', retryDelaysMs: [1, 1] })
const NEW = { id: null, mayExist: false } as const
const sent = () =>
  double.requests.map(({ method, path }) => `${method} ${path.replace(/.*(?=check-runs)/, '')}`)
/** The lines that a run has annotations at. */
const lines = () => double.checks.runs.map((run) => run.annotations.map((one) => one.start_line))
const upTo = (count: number) => Array.from({ length: count }, (_, at) => at + 1)

test('a run is created, updated, and completed within GitHub’s limits', async () => {
  const id = await forge().setCheckRun(RUN, NEW)
  expect(double.checks.runs).toMatchObject([
    {
      id,
      repository: 'Acme/App',
      name: 'image',
      head_sha: SHA,
      external_id: RUN.buildId,
      status: 'in_progress',
    },
  ])
  expect(await forge().setCheckRun(failed(0), { id: id ?? 0 })).toBe(id)
  const [run] = double.checks.runs
  expect(run).toMatchObject({ history: ['in_progress', 'completed'], conclusion: 'failure', actions: [] })
  expect(run?.title).toMatch(/^very long .*…$/)
  expect(sent()).toEqual(['POST check-runs', `PATCH check-runs/${id}`])
})

test.each([[50], [51], [130]])('%i annotations are sent, at most 50 a request', async (count) => {
  await forge().setCheckRun(failed(count), NEW)
  expect(lines()).toEqual([upTo(count)])
  expect(double.requests).toHaveLength(Math.ceil(count / 50))
})

test('annotations that a request without an answer has added are not sent again', async () => {
  const id = (await forge().setCheckRun(RUN, NEW)) ?? 0
  // It arrives, and its answer does not.
  double.loseAnswers(1)
  await forge().setCheckRun(failed(120), { id })
  expect(lines()).toEqual([upTo(120)])
  // As after a crash: nobody knows what was sent.
  await forge().setCheckRun(failed(120), { id })
  expect(lines()).toEqual([upTo(120)])
})

test('a run whose creation got no answer is found by its build, and not made twice', async () => {
  // Others of the commit: more than a page.
  for (let other = 0; other < 130; other += 1) {
    await forge().setCheckRun({ ...RUN, buildId: `build ${other}` }, NEW)
  }
  double.loseAnswers(1)
  const id = await forge().setCheckRun(failed(60), NEW)
  const own = double.checks.runs.filter((run) => run.external_id === RUN.buildId)
  expect(own).toMatchObject([{ id, conclusion: 'failure' }])
  expect(own[0]?.annotations).toHaveLength(60)
  expect(await forge().setCheckRun(failed(60), { id: null, mayExist: true })).toBe(id)
  expect(double.checks.runs).toHaveLength(131)
  expect(double.checks.runs.at(-1)?.annotations).toHaveLength(60)
})

test('null stands for a refusal: of a token that is no App’s, of an App without the permission, of a repository', async () => {
  await using personal = await startGitHubDouble({ token: 'ghp_personal' })
  const other = github({ baseUrl: personal.url, token: 'ghp_personal', retryDelaysMs: [1] })
  expect(await other.setCheckRun(RUN, NEW)).toBeNull()
  expect(personal.requests).toHaveLength(1)
  double.checks.denied.add('acme/app')
  expect(await forge().setCheckRun(RUN, NEW)).toBeNull()
  expect(await forge().setCheckRun(RUN, { id: 31_000_000_000 })).toBeNull()
  expect(await github({ baseUrl: double.url }).setCheckRun(RUN, NEW)).toBeNull()
})

test('a rate limit, an outage and an unknown commit are no refusals', async () => {
  double.failAlways(403, { headers: { 'retry-after': '3600' } })
  await expect(forge().setCheckRun(RUN, NEW)).rejects.toMatchObject({ kind: 'unavailable' })
  double.failAlways(502)
  await expect(forge().setCheckRun(RUN, NEW)).rejects.toMatchObject({ kind: 'unavailable' })
  double.failAlways(422, {
    body: { message: `No commit found for SHA: ${SHA}`, documentation_url: '', status: '422' },
  })
  await expect(forge().setCheckRun(RUN, NEW)).rejects.toMatchObject({ kind: 'not_found' })
})
