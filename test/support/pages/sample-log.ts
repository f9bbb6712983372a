import type { Build } from '../../../src/lib/core/build.ts'
import type { Step, Timeline } from '../../../src/lib/core/timeline.ts'

/** A log and a timeline for pictures of a build: it succeeded, or its tests failed. */
export function sampleRun(build: Build, failed: boolean): { log: string; timeline: Timeline } {
  const at = Date.parse(build.createdAt)
  const time = (seconds: number) => new Date(at + seconds * 1000).toISOString()
  const step = (
    number: number,
    name: string,
    [from, to]: [number, number],
    rest: Partial<Step> = {},
  ): Step => ({
    ...{ number, name, digest: `sha256:${number}`, inputs: number > 3 ? [number - 1] : [], state: 'done' },
    ...{ startedAt: time(from), completedAt: time(to), error: null, warnings: [] },
    ...rest,
  })
  const end = failed ? 9.4 : 12.1
  const steps: Step[] = [
    step(1, '[internal] load build definition from Dockerfile', [0.5, 0.6]),
    step(2, '[internal] load metadata for docker.io/library/node:24', [0.6, 0.9]),
    step(3, '[build 1/5] FROM docker.io/library/node:24', [0.9, 0.9], { state: 'cached' }),
    step(4, '[build 2/5] WORKDIR /app', [0.9, 0.9], { state: 'cached' }),
    step(5, '[build 3/5] COPY package.json package-lock.json ./', [1, 1.1]),
    step(6, '[build 4/5] RUN npm ci', [1.1, 6.3]),
    step(
      7,
      '[build 5/5] RUN npm run test',
      [6.3, end],
      failed ? { state: 'failed', error: 'exit code: 1' } : {},
    ),
  ]
  const commands = steps.slice(2).map(({ number }) => number)
  return {
    log: `${begin(build)}${failed ? FAILED : succeeded(build)}`,
    timeline: {
      attempt: 1,
      phases: [
        { name: 'queue', startedAt: time(0), ms: 40 },
        { name: 'fetch', startedAt: time(0.1), ms: 290 },
        { name: 'context', startedAt: time(0.4), ms: 60, note: '1,204 entries' },
        { name: 'build', startedAt: time(0.5), ms: (end - 0.5) * 1000, note: '2 of 4 steps cached' },
        ...(failed
          ? []
          : ([
              { name: 'push', startedAt: time(end), ms: 900 },
              { name: 'tags', startedAt: time(end + 0.9), ms: 60 },
            ] as const)),
      ],
      steps,
      critical: commands,
      missed: {
        step: 5,
        name: '[build 3/5] COPY package.json package-lock.json ./',
        causes: [
          { kind: 'file', path: 'package-lock.json', change: 'changed' },
          { kind: 'file', path: 'package.json', change: 'changed' },
        ],
        more: 0,
        comparedWith: null,
      },
      made: null,
      ...(failed && {
        excerpt: {
          file: 'Dockerfile',
          lines: [
            { number: 3, text: 'COPY package.json package-lock.json ./', failed: false },
            { number: 4, text: 'RUN npm ci', failed: false },
            { number: 5, text: 'RUN npm run test', failed: true },
            { number: 6, text: 'CMD ["node", "server.js"]', failed: false },
          ],
          more: 0,
        },
      }),
    },
  }
}

const begin = ({
  repository,
  sha,
  refs: [ref],
}: Build) => `building ${repository}@${sha} (branch ${ref?.name})
fetching ${repository}@${sha.slice(0, 7)} from github.com
fetched 12 objects, 2.52 KiB

#1 [internal] load build definition from Dockerfile
#1 DONE 0.1s

#2 [internal] load metadata for docker.io/library/node:24
#2 DONE 0.3s

#3 [build 1/5] FROM docker.io/library/node:24
#3 CACHED

#4 [build 2/5] WORKDIR /app
#4 CACHED

#5 [build 3/5] COPY package.json package-lock.json ./
#5 DONE 0.1s

#6 [build 4/5] RUN npm ci
#6 4.812 added 212 packages, and audited 213 packages in 5s
#6 4.813 found \x1b[32m\x1b[1m0\x1b[22m\x1b[39m vulnerabilities
#6 DONE 5.2s

#7 [build 5/5] RUN npm run test
#7 0.410 \x1b[32m✔\x1b[39m greets by name in every language (0.91ms)
#7 0.412 \x1b[32m✔\x1b[39m adds the taxes of Canada (1.20ms)
`
const FAILED = `#7 2.901 \x1b[31m✖ retries the upload when the registry closes the connection (2481.07ms)\x1b[39m
#7 2.902   AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:
#7 2.902   \x1b[32m+ actual\x1b[39m \x1b[31m- expected\x1b[39m
#7 2.903   \x1b[32m+ 1\x1b[39m
#7 2.903   \x1b[31m- 3\x1b[39m
#7 2.904       at test/upload.test.js:41:10
#7 2.950 ℹ tests 214
#7 2.950 ℹ pass 213
#7 2.951 ℹ fail 1
#7 ERROR: process "/bin/sh -c npm run test" did not complete successfully: exit code: 1

error: [build 5/5] RUN npm run test failed with exit code 1
`
const succeeded = ({ sha }: Build) => `#7 2.950 ℹ tests 214
#7 2.950 ℹ pass 214
#7 DONE 5.8s
not cached: #5 COPY package.json package-lock.json ./: 2 files changed: package-lock.json, package.json

look up 0.01 s, fetch 0.29 s, context 0.06 s (1204 entries), build 11.60 s (1 of 4 steps cached, 2 files sent), push 0.90 s, tag 0.06 s; 12.92 s in all
tags ${sha}, main, latest
`
