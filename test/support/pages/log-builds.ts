import type { Page } from 'playwright-core'
import type { Build } from '../../../src/lib/core/build.ts'
import type { TestServer } from '../test-server.ts'

/** Builds with logs, for tests of their pages. */

export const START = `building acme/app@${'a'.repeat(40)} (branch main)

#1 [build 1/2] COPY . .
#1 DONE 0.1s

#2 [build 2/2] RUN make
`
export const FAILED = `#2 1.500 boom: no such file
#2 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2

error: [build 2/2] RUN make failed with exit code 2
`

/** Lines of the second step after START. */
export function output(from: number, to: number): string {
  return Array.from(
    { length: to - from },
    (_, i) => `#2 ${((from + i) / 1000).toFixed(3)} line of output ${from + i}\n`,
  ).join('')
}

export async function acceptBuild({ store }: TestServer, title = 'Greet people'): Promise<Build> {
  const { build } = await store.accept({
    ...{ repository: 'acme/app', sha: 'a'.repeat(40), ref: { kind: 'branch', name: 'main' } },
    ...{ defaultBranch: 'main', cache: true, source: { kind: 'webhook', delivery: '1' } },
    commit: { title, author: 'Ada Lovelace', login: 'ada' },
  })
  return build
}

export async function beginBuild(server: TestServer, title?: string): Promise<Build> {
  const claimed = await server.store.claim((await acceptBuild(server, title)).id)
  if (!claimed) throw new Error('the build cannot be claimed')
  return claimed
}

export async function failedBuild(server: TestServer, log = START + output(0, 30) + FAILED): Promise<Build> {
  const build = await beginBuild(server)
  await server.writeLog(build, log)
  await server.fail(build, '[build 2/2] RUN make failed with exit code 2')
  await server.endLog(build)
  return build
}

/** Opens the page of a build, and waits until its scripts have done what they do at first. */
export async function openBuild(page: Page, server: TestServer, build: Build, hash = ''): Promise<void> {
  await page.goto(`${server.url}/builds/${build.id}${hash}`)
  await page.locator('#log[data-ready]').waitFor()
}
