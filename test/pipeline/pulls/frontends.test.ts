import { expect, test } from 'vitest'
import type { Build } from '../../../src/lib/core/build.ts'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
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

test.each([
  ['behind //', '// syntax=mallory/x\nFROM a\n'],
  ['behind another directive', '//check=skip=all\n//SYNTAX = mallory/x opts\n'],
  ['behind #!', '#!/bin/sh\n// syntax=mallory/x\n'],
  ['behind a byte order mark', '\ufeff#!/bin/sh\n# syntax=mallory/x\n'],
  ['behind a no-break space', '#\u00a0syntax=mallory/x\nFROM a\n'],
  ['behind a vertical tab', '#\vsyntax=mallory/x\nFROM a\n'],
  ['behind a next line', '// \u0085 syntax=mallory/x\n'],
  ['in JSON', '{"syntax": "mallory/x"}'],
  // Versions of BuildKit up to 0.12 take the first.
  ['in JSON, twice', '{"Syntax": "mallory/x", "syntax": null}'],
  ['in JSON, with an escape', '#!/bin/sh\n\r\n\t{"s\\u0079ntax": "mallory/x"}'],
])('a fork may not select a frontend %s', (_, text) => {
  expect(() => checkFrontend(build, text)).toThrow(ConveyorError)
})

test('a fork may select none', () => {
  expect(() => checkFrontend(build, 'FROM scratch\n')).not.toThrow()
  expect(() => checkFrontend(build, '# syntax of mallory/x\n\n# syntax=mallory/x\nFROM a\n')).not.toThrow()
  expect(() => checkFrontend(build, 'FROM a\n// syntax=mallory/x\n')).not.toThrow()
})

test('a Dockerfile of a fork that cannot be read is refused', () => {
  expect(() => checkFrontend(build, null)).toThrow(/cannot be read/)
  const { fork: _fork, ...own } = build
  expect(() => checkFrontend(own as Build, null)).not.toThrow()
})
