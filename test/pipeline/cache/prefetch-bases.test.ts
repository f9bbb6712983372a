import { expect, test } from 'vitest'
import { basesOf } from '../../../src/lib/pipeline/cache/prefetch-bases.ts'

const bases = (dockerfile: string, buildArgs: Record<string, string> = {}, target: string | null = null) =>
  basesOf(dockerfile, { buildArgs, target, contexts: {} })

test('the image of FROM, whatever else the Dockerfile says', () => {
  expect(bases('# FROM nothing\nFROM debian:12\nRUN echo FROM x\n')).toEqual(['debian:12'])
  expect(bases('from debian:12 as base\r\nrun true')).toEqual(['debian:12'])
  expect(bases('FROM \\\n  debian:12\n')).toEqual(['debian:12'])
  expect(bases('FROM scratch\nCOPY x /x')).toEqual([])
  expect(bases('')).toEqual([])
})

test('only stages that the last one, or the target, needs', () => {
  const dockerfile = [
    'FROM golang:1 AS build',
    'FROM node:24 AS docs',
    'FROM build AS test',
    'RUN --mount=type=bind,from=tools:1,target=/tools true',
    'FROM alpine',
    'COPY --from=Build /x /x',
    'COPY --from=busybox:1 /bin/busybox /bin/',
    'COPY --from=0 /y /y',
  ].join('\n')
  expect(bases(dockerfile).sort()).toEqual(['alpine', 'busybox:1', 'golang:1'])
  expect(bases(dockerfile, {}, 'test').sort()).toEqual(['golang:1', 'tools:1'])
  expect(bases(dockerfile, {}, 'docs')).toEqual(['node:24'])
})

test('arguments before the first stage, given or by default', () => {
  const image = ['debian:$', '{VERSION}-$', '{VARIANT:-slim}'].join('')
  const dockerfile = `ARG VERSION=12\nARG VARIANT\nFROM ${image}\nARG X=1\n`
  expect(bases(dockerfile)).toEqual(['debian:12-slim'])
  expect(bases(dockerfile, { VERSION: '13', VARIANT: 'backports' })).toEqual(['debian:13-backports'])
  expect(bases('ARG V="12"\nFROM debian:$V')).toEqual(['debian:12'])
})

test('uncertain images are left out', () => {
  expect(bases('ARG V\nFROM debian:$V\nCOPY --from=$V /x /x')).toEqual([])
  expect(
    bases('FROM --platform=$BUILDPLATFORM golang:1 AS build\nFROM alpine\nCOPY --from=build /x /x'),
  ).toEqual(['alpine'])
})

test('stages that name each other do not loop forever', () => {
  expect(bases('FROM a AS a\nFROM a AS b\nCOPY --from=b /x /x')).toEqual(['a'])
})

test('named contexts', () => {
  const contexts = { base: 'docker-image://debian:12', docs: 'https://git.lan/docs.git#main' }
  const dockerfile = 'FROM base\nCOPY --from=docs / /docs\nCOPY --from=busybox:1 /bin/sh /\n'
  expect(basesOf(dockerfile, { buildArgs: {}, target: null, contexts })).toEqual(['debian:12', 'busybox:1'])
})
