import { expect, test } from 'vitest'
import { copiedBeforeRun } from '../../src/lib/dockerfile/copied-before-run.ts'

const MAKE = 'RUN --mount=type=cache,target=/o make'

test.each<[string, string[], string[]]>([
  ['without cache mounts, nothing', ['FROM a', 'COPY deps /', 'RUN x', 'COPY . .', 'RUN make'], []],
  ['dependencies', ['FROM a', 'COPY deps lock /', 'RUN x', 'COPY . .', MAKE], ['deps', 'lock']],
  ['in JSON', ['FROM a', 'COPY ["a b", "/"]', 'RUN x', 'COPY . .', MAKE], ['a b']],
  ['what is only copied, nothing', ['FROM a', 'COPY a b /', 'COPY . .', MAKE], []],
  ['what nothing is copied after, nothing', ['FROM a', 'COPY . .', MAKE, 'RUN x'], []],
  ['a stage of its own', ['FROM a', 'COPY . .', MAKE, 'FROM b', 'COPY conf /', 'COPY --from=0 /o /'], []],
  ['a stage below', ['FROM a AS d', 'COPY deps /', 'RUN x', 'FROM D', 'COPY . .', MAKE], ['deps']],
  [
    'a stage beside',
    ['FROM a AS d', 'COPY deps /', 'RUN x', 'FROM b', 'COPY --from=d / /', 'COPY . .', MAKE],
    ['deps'],
  ],
  ['what cannot be told, everything', ['FROM a', 'ARG X', 'COPY $X /', 'RUN x', 'COPY . .', MAKE], ['/']],
  ['what is no Dockerfile, everything', ['NO'], ['/']],
])('%s', (_, lines, expected) => {
  expect(copiedBeforeRun(lines.join('\n'))).toEqual(expected)
})

test('everything, for a file that would take too long', () => {
  const lines = Array.from({ length: 40_000 }, (_, i) => `COPY a${i} /\nRUN x`)
  expect(copiedBeforeRun(['FROM a', MAKE, ...lines].join('\n'))).toEqual(['/'])
})
