import { expect, test } from 'vitest'
import { missingPath } from '../../src/lib/builder/step-errors.ts'
import { threadTime } from '../support/timing/thread-time.ts'

const NAME = '[2/3] COPY --from=build /app/dist /app'
const missing = (error: string) =>
  missingPath({ name: NAME, error }, error, new Set(['build']), null)?.message
const REF = 'failed to calculate checksum of ref a::b: '

test.each([
  [`${REF}"/app/dist": not found`, '"/app/dist"'],
  ['"/app/dist" not found: not found', '"/app/dist"'],
  [
    `${REF}failed to walk /x/buildkit-mount1/a: lstat /x/buildkit-mount1/a/b: no such file or directory`,
    '"/a/b"',
  ],
  ['failed to walk /x: lstat /x/overlay2/l/merged/a lstat b: no such file or directory', '"/a lstat b"'],
  ['lstat /x/buildkit-mount1/app: lstat c: no such file or directory', '"/app: lstat c"'],
  ['lstat /elsewhere: no such file or directory', 'its source'],
])('a missing path: %s', (error, what) => {
  expect(missing(error)).toBe(`${NAME}: ${what} is not in the stage build`)
})

test.each([
  '"/app/dist" is there',
  'the release was not found',
  'stat /x/buildkit-mount1/app: no such file or directory',
  'failed to walk /x/buildkit-mount1/app: no such file or directory',
  '"/app\n": not found',
])('another error: %j', (error) => expect(missing(error)).toBeUndefined())

test.each([' not found', ': no such file or directory', ''])(
  'a frontend cannot make it take long: %j',
  (end) => {
    const taken = threadTime()
    for (const start of ['failed to walk ', `${REF}failed to walk `, '']) {
      missing(`${start}${': lstat '.repeat(8000 - 20)}${end}`)
    }
    expect(taken()).toBeLessThan(200)
  },
)
