import { expect, test } from 'vitest'
import type { BuildRef } from '../../../src/lib/core/build.ts'
import { type BuildSettings, NO_SETTINGS } from '../../../src/lib/core/settings.ts'
import type { BuildParts } from '../../../src/lib/pipeline/parts.ts'
import { withGitArgs } from '../../../src/lib/pipeline/reuse/git-args.ts'

const SHA = '0123456789abcdef0123456789abcdef01234567'
const ALL = 'FROM x\nARG GIT_SHA GIT_BRANCH\nARG GIT_TAG=none\nARG SOURCE_DATE_EPOCH\n'

async function argsFor(
  dockerfile: string,
  refs: Pick<BuildRef, 'kind' | 'name'>[] = [{ kind: 'branch', name: 'main' }],
  settings: Partial<BuildSettings> = { gitArgs: true },
): Promise<Record<string, string>> {
  const bytes = Buffer.from(dockerfile)
  const file = {
    path: 'Dockerfile',
    kind: 'file' as const,
    size: bytes.length,
    rawPath: Buffer.from('Dockerfile'),
  }
  const entry = { ...file, mode: 0o644, contentId: '', linkTarget: new Uint8Array() }
  const context = {
    dockerfileEntry: entry,
    read: async function* () {
      yield bytes
    },
  }
  const parts = { settings: () => ({ ...NO_SETTINGS, ...settings }) } as unknown as BuildParts
  const build = { repository: 'acme/app', sha: SHA, refs: refs as BuildRef[] }
  const commit = { committedAt: '2024-01-02T03:04:05.000Z' }
  const own = await withGitArgs(build, commit, context, parts, new AbortController().signal)
  return own.settings('acme/app').buildArgs
}

test('a Dockerfile gets the arguments that it declares', async () => {
  const all = { GIT_SHA: SHA, GIT_BRANCH: 'main', SOURCE_DATE_EPOCH: '1704164645' }
  expect(await argsFor(ALL)).toEqual(all)
  expect(await argsFor(ALL, [{ kind: 'tag', name: 'v1' }])).toEqual({
    ...all,
    GIT_BRANCH: undefined,
    GIT_TAG: 'v1',
  })
  expect(await argsFor('FROM x\nARG GIT_SHA=unknown\n')).toEqual({ GIT_SHA: SHA })
  expect(await argsFor('ARG GIT_SHA\nFROM x\nRUN echo GIT_BRANCH $GIT_TAG\n')).toEqual({ GIT_SHA: SHA })
  expect(await argsFor('FROM x AS base\nONBUILD ARG "GIT_BRANCH"="x"\nFROM base\n')).toEqual({
    GIT_BRANCH: 'main',
  })
  expect(await argsFor('FROM x\narg A=1 \\\n # comment\n GIT_SHA\n')).toEqual({ GIT_SHA: SHA })
})

test('others are not given, so that they do not keep images from being reused', async () => {
  expect(await argsFor('FROM x\n# ARG GIT_SHA\nARG MY_GIT_SHA GIT_SHAS\nENV GIT_SHA=1\n')).toEqual({})
  expect(await argsFor(ALL, undefined, { gitArgs: false })).toEqual({})
})

test('a Dockerfile in an unknown syntax gets what it mentions', async () => {
  expect(await argsFor('# syntax=acme/frontend\nBUILD with GIT_SHA\n')).toEqual({ GIT_SHA: SHA })
})

test('configured arguments take precedence', async () => {
  const settings = { gitArgs: true, buildArgs: { GIT_SHA: 'mine', A: '1' } }
  expect(await argsFor('FROM x\nARG GIT_SHA\n', undefined, settings)).toEqual({ GIT_SHA: 'mine', A: '1' })
})

test('a merge queue has the branch that it merges into, and a pull request none', async () => {
  const queue = { kind: 'branch', name: `gh-readonly-queue/release/1/pr-7-${SHA}` } as const
  expect(await argsFor('FROM x\nARG GIT_BRANCH\n', [queue])).toEqual({ GIT_BRANCH: 'release/1' })
  expect(await argsFor('FROM x\nARG GIT_BRANCH\n', [queue, { kind: 'branch', name: 'release/1' }])).toEqual({
    GIT_BRANCH: 'release/1',
  })
  expect(await argsFor('FROM x\nARG GIT_BRANCH\n', [{ kind: 'pull', name: '7' }])).toEqual({})
})
