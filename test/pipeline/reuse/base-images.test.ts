import { expect, test } from 'vitest'
import type { Builder } from '../../../src/lib/builder/builder.ts'
import { baseImages, imageReferences } from '../../../src/lib/pipeline/reuse/base-images.ts'
import { withCachedHeads } from '../../../src/lib/pipeline/reuse/find-image.ts'
import type { Registry } from '../../../src/lib/registry/registry.ts'

const DIGEST = `sha256:${'1'.repeat(64)}`
const NODE = `docker.io/library/node:24`

/** The base images of a build that used `node:24`, whose digest BuildKit reported. Nothing is looked up. */
const bases = (dockerfile: string, contexts: Record<string, string> = {}, remoteFiles = false) =>
  baseImages(
    { images: [{ name: NODE, digest: DIGEST }], remoteFiles },
    imageReferences(dockerfile, { buildArgs: {}, target: null, contexts }),
    new Map(),
    { builder: {} as Builder, registry: {} as Registry },
    new AbortController().signal,
  )

test.each([
  ['a tag', 'FROM node:24', {}, 'registry'],
  ['a digest', `FROM node:24@${DIGEST}`, {}, 'pinned'],
  ['a digest by an argument', `ARG BASE=node:24@${DIGEST}\nFROM $BASE`, {}, 'pinned'],
  [
    'a digest and a tag',
    `FROM --platform=$P \\\n node:24\nCOPY --from=node:24@${DIGEST} a b`,
    {},
    'registry',
  ],
  ['a context', 'FROM base', { base: `docker-image://node:24@${DIGEST}` }, 'pinned'],
  [
    'a context and a tag',
    'FROM base\nFROM node:24',
    { base: `docker-image://node:24@${DIGEST}` },
    'registry',
  ],
  [
    'a context and an argument',
    'FROM base\nFROM node:$TARGETARCH',
    { base: `docker-image://node:24@${DIGEST}` },
    'registry',
  ],
  ['a commit, too', 'FROM node:24', { docs: `https://git.lan/docs.git#${'a'.repeat(40)}:src` }, 'registry'],
])('an image named by %s', async (_, dockerfile, contexts, resolved) => {
  expect(await bases(dockerfile, contexts)).toEqual([{ name: NODE, digest: DIGEST, resolved }])
})

test.each([
  ['a branch', 'https://git.lan/docs.git#main'],
  ['what only looks like a commit', `https://git.lan/docs.git#${'a'.repeat(12)}`],
  ['a file, whatever follows it', `https://git.lan/docs#${'a'.repeat(40)}`],
])('a context of %s cannot be pinned', async (_, docs) => {
  expect(await bases('FROM node:24', { docs })).toBeNull()
})

test('nor can files from a URL', async () => {
  expect(await bases('FROM node:24', {}, true)).toBeNull()
})

test('the lookups of a build query each image once', async () => {
  const asked: string[] = []
  const registry = {
    async head(name: string, reference: string) {
      asked.push(`${name}:${reference}`)
      return reference === 'gone' ? null : DIGEST
    },
  } as unknown as Registry
  const once = withCachedHeads(registry)
  const names = ['24', 'gone', '24', 'gone', '24']
  const answers = await Promise.all(names.map((tag) => once.head('docker.io/library/node', tag)))
  expect(answers).toEqual([DIGEST, null, DIGEST, null, DIGEST])
  expect(asked).toEqual(['docker.io/library/node:24', 'docker.io/library/node:gone'])
})
