import { expect, test } from 'vitest'
import type { Build } from '../../../src/lib/core/build.ts'
import { checkFrontend } from '../../../src/lib/pipeline/pulls/forks.ts'

const build = {
  repository: 'acme/app',
  sha: 'a'.repeat(40),
  fork: { pull: 7, repository: 'mallory/app', approvedBy: 'ada' },
} as unknown as Build

const dockerfile = (frontend: string) => `# syntax=${frontend}\nFROM scratch\n`

test.each([
  'docker/dockerfile',
  'docker/dockerfile:1',
  'docker.io/docker/dockerfile:1.4',
  'docker/dockerfile:1.12.1',
  'docker/dockerfile:1-labs',
  'docker/dockerfile:1.7-labs',
  'docker/dockerfile:labs',
])('a fork may select %s', (frontend) => {
  expect(() => checkFrontend(build, dockerfile(frontend))).not.toThrow()
})

test.each([
  'evil.example/docker/dockerfile:1',
  'docker/dockerfile-upstream:master',
  'docker/dockerfile:1.0-experimental',
  'docker/dockerfile:1.3.1',
  `docker/dockerfile@sha256:${'0'.repeat(64)}`,
  `docker/dockerfile:1@sha256:${'0'.repeat(64)}`,
  'mallory/dockerfile:1',
])('a fork may not select %s, but the repository itself may', (frontend) => {
  expect(() => checkFrontend(build, dockerfile(frontend))).toThrow(/selects the frontend/)
  const { fork: _fork, ...own } = build
  expect(() => checkFrontend(own as Build, dockerfile(frontend))).not.toThrow()
})

test('a fork may select none', () => {
  expect(() => checkFrontend(build, 'FROM scratch\n')).not.toThrow()
  expect(() => checkFrontend(build, null)).not.toThrow()
})
