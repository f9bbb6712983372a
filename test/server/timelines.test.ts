import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { MadeFrom, Step, Timeline } from '../../src/lib/core/timeline.ts'
import { startTestServer, type TestServer } from '../support/test-server.ts'

const SHA = 'a'.repeat(40)
const OTHER = 'b'.repeat(40)
const at = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString()

function step(number: number, name: string, from: number, to: number | null, rest: Partial<Step> = {}): Step {
  const times = { startedAt: at(from), completedAt: to === null ? null : at(to) }
  const state = to === null ? 'running' : 'done'
  return { number, name, digest: 'd', inputs: [], ...times, state, error: null, warnings: [], ...rest }
}

const MADE: MadeFrom = {
  instructions: ['FROM base', 'RUN a', 'RUN b', 'COPY . .'],
  bases: [
    { name: 'docker.io/library/base:latest', digest: 'sha256:1' },
    { name: 'docker.io/library/same:latest', digest: 'sha256:3' },
  ],
  settings: { network: 'k1', 'build-arg OLD': 'k2', 'build-arg X': 'k3' },
}
const TIMELINE: Timeline = {
  attempt: 1,
  phases: [
    { name: 'queue', startedAt: at(0), ms: 10 },
    { name: 'build', startedAt: at(10), ms: 990, note: '1 of 2 steps cached' },
  ],
  steps: [
    step(1, '[1/3] RUN a', 10, 20),
    step(2, '[2/3] RUN b', 20, 520),
    step(3, '[3/3] COPY . .', 520, 620),
  ],
  critical: [1, 3],
  missed: null,
  made: MADE,
}

let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
// Fails if a response is not as the API's description says.
afterEach(() => server[Symbol.asyncDispose]())

async function get(path: string) {
  const answer = await fetch(`${server.url}${path}`, { headers: { accept: 'application/json' } })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

describe('GET /builds/ID/steps', () => {
  test('is empty before anything is known, and live while the build runs', async () => {
    const build = await server.begin(SHA)
    const none = await get(`/builds/${build.id}/steps`)
    expect(none).toEqual({
      status: 200,
      body: { build: build.id, attempt: 1, phases: [], steps: [], missed: null, excerpt: null },
    })
    const running: Timeline = {
      ...TIMELINE,
      phases: [{ name: 'fetch', startedAt: at(0), ms: 5, running: true }],
      steps: [step(1, '[1/3] RUN a', 10, null)],
      critical: [],
    }
    await server.store.timelines.put(build.id, running)
    const { body } = await get(`/builds/acme/app@${SHA}/steps`)
    expect(body).toMatchObject({
      phases: [{ name: 'fetch', started_at: at(0), ms: 5, running: true, note: null }],
      steps: [{ number: 1, state: 'running', started_at: at(10), completed_at: null, critical: false }],
    })
  })

  test('has the lines of the Dockerfile that the build failed at', async () => {
    const build = await server.begin(SHA)
    const excerpt = { file: 'Dockerfile', lines: [{ number: 3, text: 'RUN false', failed: true }], more: 0 }
    await server.store.timelines.put(build.id, { ...TIMELINE, excerpt })
    expect((await get(`/builds/${build.id}/steps`)).body).toMatchObject({ excerpt })
  })

  test('says why steps were not cached, and nothing about the values of settings', async () => {
    const build = await server.begin(SHA)
    const missed: Timeline['missed'] = {
      ...{ step: 2, name: '[2/3] RUN b', more: 3, comparedWith: { build: 'x', sha: OTHER } },
      causes: [
        { kind: 'file', path: 'src/a.ts', change: 'mode' },
        { kind: 'instruction', before: null, after: 'RUN b' },
        { kind: 'base', name: 'base', before: 'sha256:1', after: 'sha256:2' },
        { kind: 'setting', name: 'build-arg X' },
        { kind: 'unknown' },
      ],
    }
    await server.store.timelines.put(build.id, { ...TIMELINE, missed })
    const { body } = await get(`/builds/${build.id}/steps`)
    const { comparedWith, ...rest } = missed
    expect(body.missed).toEqual({ ...rest, compared_with: comparedWith })
    expect(body.steps).toMatchObject([{ critical: true }, { critical: false }, { critical: true }])
    expect(JSON.stringify(body)).not.toContain('k3')
  })

  test('of an unknown build is a 404', async () => {
    expect(await get('/builds/nothing/steps')).toMatchObject({ status: 404, body: { id: 'not_found' } })
  })
})

describe('GET /compare/A...B', () => {
  async function two(): Promise<[string, string]> {
    const ids: string[] = []
    for (const [sha, context] of [
      [SHA, 'c1'],
      [OTHER, 'c2'],
    ] as const) {
      const { id, attempt } = await server.begin(sha)
      const recipe = { context, dockerfile: 'd', settings: 's' }
      const image = `registry.example/acme/app@sha256:${context.repeat(32)}`
      await server.store.finish(id, attempt, 1, { state: 'succeeded', image, tags: [], recipe })
      ids.push(id)
    }
    return ids as [string, string]
  }

  test('shows images, files, base images, lines, settings and the times of steps', async () => {
    const [a, b] = await two()
    await server.store.timelines.put(a, TIMELINE)
    await server.store.timelines.put(b, {
      ...TIMELINE,
      steps: [
        step(1, '[1/4] RUN a', 0, 5, { state: 'cached' }),
        step(5, '[2/4] RUN new', 5, 105),
        step(6, '[4/4] COPY . .', 105, 905),
      ],
      missed: {
        ...{ step: 6, name: '', more: 0, comparedWith: { build: a, sha: SHA } },
        causes: [{ kind: 'file', path: 'x', change: 'added' }],
      },
      made: {
        instructions: ['FROM base', 'RUN a', 'RUN new', 'COPY . .', 'CMD x'],
        bases: [
          { name: 'docker.io/library/base:latest', digest: 'sha256:2' },
          { name: 'docker.io/library/same:latest', digest: 'sha256:3' },
        ],
        settings: { network: 'k1', 'build-arg NEW': 'k2', 'build-arg X': 'k9' },
      },
    })
    const { status, body } = await get(`/compare/${a}...acme/app@${OTHER}`)
    expect(status).toBe(200)
    expect(body).toMatchObject({ a: { id: a }, b: { id: b }, same_image: false })
    expect((await get(`/compare/acme/app@${SHA}...acme/app@${OTHER}`)).body).toEqual(body)
    expect((await get(`/compare/acme/app@${SHA}...${b}`)).body).toEqual(body)
    expect(body.context).toEqual({ same: false, files: [{ path: 'x', change: 'added' }], more: 0 })
    expect(body.bases).toEqual([{ name: 'docker.io/library/base:latest', a: 'sha256:1', b: 'sha256:2' }])
    expect(body.instructions).toEqual([
      { a: 'RUN b', b: 'RUN new' },
      { a: null, b: 'CMD x' },
    ])
    expect(body.settings).toEqual([
      { name: 'build-arg NEW', change: 'added' },
      { name: 'build-arg OLD', change: 'removed' },
      { name: 'build-arg X', change: 'changed' },
    ])
    expect(body.steps).toEqual([
      {
        name: '[1/4] RUN a',
        a: { number: 1, state: 'done', ms: 10 },
        b: { number: 1, state: 'cached', ms: 5 },
      },
      { name: '[2/3] RUN b', a: { number: 2, state: 'done', ms: 500 }, b: null },
      {
        name: '[4/4] COPY . .',
        a: { number: 3, state: 'done', ms: 100 },
        b: { number: 6, state: 'done', ms: 800 },
      },
      { name: '[2/4] RUN new', a: null, b: { number: 5, state: 'done', ms: 100 } },
    ])
  })

  test('says what is not known, and rejects other paths', async () => {
    const [a, b] = await two()
    const { body } = await get(`/compare/${a}...${b}`)
    expect(body).toMatchObject({ bases: null, instructions: null, settings: null, steps: [] })
    expect(body.context).toEqual({ same: false, files: null, more: 0 })
    expect((await get(`/compare/${a}...${a}`)).body).toMatchObject({
      same_image: true,
      context: { same: true },
    })
    expect(await get(`/compare/${a}`)).toMatchObject({ status: 400, body: { id: 'invalid' } })
    expect((await get(`/compare/${a}...${b}...${a}`)).status).toBe(400)
    expect((await get(`/compare/${a}...nothing`)).status).toBe(404)
  })
})
