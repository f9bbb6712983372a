import { afterEach, describe, expect, it } from 'vitest'
import { badge } from '../../../src/lib/server/pages/badge.ts'
import { startBrowser } from '../../support/pages/browser.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

const AUTH = { username: 'me', password: 'secret' }
const LOGIN = { authorization: `Basic ${Buffer.from('me:secret').toString('base64')}` }

let server: TestServer | undefined
afterEach(async () => {
  await server?.[Symbol.asyncDispose]()
  server = undefined
})

async function start(badges: 'public' | 'private'): Promise<TestServer> {
  server = await startTestServer({ auth: AUTH, badges })
  await server.succeed(await server.begin(sha('a'), 'main'))
  await server.fail(await server.begin(sha('b'), 'other'), 'exit code 1')
  await server.begin(sha('c'), 'main')
  return server
}

async function get(path: string, headers: Record<string, string> = {}) {
  const answer = await fetch(`${server?.url}/badge/${path}`, { headers })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

const stateIn = (svg: string) => /aria-label="image: (\w+)"/.exec(svg)?.[1]

describe('a badge', () => {
  it('shows the newest ended build of a branch', async () => {
    await start('public')
    expect(stateIn((await get('acme/app.svg?branch=main')).text)).toBe('succeeded')
    expect(stateIn((await get('acme/app.svg?branch=other')).text)).toBe('failed')
    expect(stateIn((await get('acme/app.svg?branch=none')).text)).toBe('unknown')
    expect(stateIn((await get('ACME/App.svg?branch=main')).text)).toBe('succeeded')
  })

  it('takes the default branch if none is given', async () => {
    const { store } = await start('public')
    const { build } = await store.accept({
      repository: 'acme/app',
      sha: sha('d'),
      ref: { kind: 'branch', name: 'third' },
      defaultBranch: 'main',
      cache: true,
      source: { kind: 'api' },
    })
    expect(build.defaultBranch).toBe('main')
    expect(stateIn((await get('acme/app.svg')).text)).toBe('succeeded')
  })

  it('is revalidated by proxies, and has neither scripts nor anything from elsewhere', async () => {
    await start('public')
    const { status, headers, text } = await get('acme/app.svg?branch=main')
    expect([status, headers.get('content-type'), headers.get('cache-control')]).toEqual([
      200,
      'image/svg+xml; charset=utf-8',
      'no-cache',
    ])
    expect(text.replace('http://www.w3.org/2000/svg', '')).not.toMatch(/script|https?:|href|@import/)
    const again = await get('acme/app.svg?branch=main', { 'if-none-match': headers.get('etag') ?? '' })
    expect([again.status, again.text]).toEqual([304, ''])
  })

  it('says nothing of private repositories: without a login, all are unknown', async () => {
    await start('private')
    const hidden = await get('acme/app.svg?branch=main')
    const missing = await get('acme/nothing.svg?branch=main')
    const odd = await get('acme/%3Cb%3E.svg?branch=..')
    const wrong = await get('acme/app.svg', { authorization: 'Basic eDp5' })
    for (const one of [missing, odd, wrong]) {
      expect([one.status, one.text, one.headers.get('etag')]).toEqual([
        200,
        hidden.text,
        hidden.headers.get('etag'),
      ])
    }
    expect(stateIn(hidden.text)).toBe('unknown')
    expect(stateIn((await get('acme/app.svg?branch=main', LOGIN)).text)).toBe('succeeded')
  })

  it('has boxes as wide as their texts in the font that a browser finds', async () => {
    await using browser = await startBrowser()
    await using opened = await browser.open()
    for (const state of ['succeeded', 'failed', 'cancelled', 'unknown'] as const) {
      await opened.page.setContent(badge(state))
      const widths = (await opened.page.evaluate(`[...document.querySelectorAll('text')].map((text) => {
        const given = Number(text.getAttribute('textLength'))
        text.removeAttribute('textLength')
        return [given, text.getComputedTextLength()]
      })`)) as [number, number][]
      expect(widths).toHaveLength(2)
      for (const [given, natural] of widths) expect(Math.abs(given / natural - 1)).toBeLessThan(0.12)
    }
  })
})
