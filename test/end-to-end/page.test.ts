import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startBrowser, type TestBrowser } from '../support/pages/browser.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

let world: World
let browser: TestBrowser
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  world = resources.use(await startWorld())
  browser = resources.use(await startBrowser())
})
afterAll(() => resources.disposeAsync())

test("a push is seen in the browser from its webhook to its image, with every line of BuildKit's", async () => {
  await using server = await world.startServer()
  await using opened = await browser.open()
  const { page, complaints } = opened
  const repository = await world.git.create('acme/seen')
  const count = 'for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i of the step"; sleep 0.1; done'
  const sha = await repository.commit({
    Dockerfile: `FROM conveyor-test/busybox:1\nRUN ${count} # ${randomUUID()}\n`,
  })

  const list = await page.context().newPage()
  await list.goto(server.url)
  const pushed = performance.now()
  const id = await world.push(server, { repository: 'acme/seen', sha })
  // Where the commit status links to.
  await page.goto(`${server.url}/builds/${id}`)
  await page.getByText('building acme/seen').first().waitFor()
  const first = performance.now() - pushed
  // A step that has ended is folded.
  await page.getByText('line 1 of the step', { exact: true }).waitFor({ state: 'attached' })
  const step = performance.now() - pushed
  process.stdout.write(
    `in the browser after the webhook: first line ${first.toFixed(0)} ms, first line of a step ${step.toFixed(0)} ms\n`,
  )

  await list.locator(`a[href$="/builds/${id}"]`).first().waitFor()
  await page.locator('#build-head .state.succeeded').waitFor()
  const digest = await world.digest('acme/seen', sha)
  expect(await page.locator('.image code').first().textContent()).toContain(`acme/seen@${digest}`)
  const written = (await buildLog(server, id))
    .split('\n')
    .filter((line) => / line \d+ of the step$/.test(line))
  expect(written).toHaveLength(10)
  for (let i = 1; i <= 10; i++) {
    await expect.poll(() => page.getByText(`line ${i} of the step`, { exact: true }).count()).toBe(1)
  }
  expect(complaints).toEqual([])
})
