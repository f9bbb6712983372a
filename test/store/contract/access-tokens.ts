import { describe, expect, it } from 'vitest'
import {
  isTokenText,
  type NewAccessToken,
  newTokenText,
  tokenHash,
} from '../../../src/lib/core/access/access-token.ts'
import { type Subject, UUID } from './subject.ts'

const HOUR_MS = 3_600_000

/** Tokens for the API: the store has their hashes. */
export function accessTokens(subject: Subject): void {
  describe('access tokens', () => {
    const tokens = () => subject.store.tokens
    const create = async (change: Partial<NewAccessToken> = {}, text = newTokenText()) => {
      const asked: NewAccessToken = {
        ...{ name: 'ci', scope: 'build', repositories: [], createdBy: 'alice', expiresInSeconds: null },
        ...change,
      }
      const token = await tokens().create(asked, tokenHash(text))
      return { text, token }
    }
    const found = (text: string) => tokens().find(tokenHash(text))
    const now = () => new Date(subject.clock).toISOString()

    it('a token is found by the hash of its text, and only by that', async () => {
      const { text, token } = await create({ repositories: ['acme/*', 'globex/web'] })
      expect(isTokenText(text)).toBe(true)
      expect(token).toEqual({
        id: expect.stringMatching(UUID),
        name: 'ci',
        scope: 'build',
        repositories: ['acme/*', 'globex/web'],
        state: 'active',
        createdBy: 'alice',
        createdAt: now(),
        expiresAt: null,
        lastUsedAt: null,
      })
      await subject.reopen()
      expect(await found(text)).toEqual(token)
      expect(await tokens().find(text)).toBeNull()
      expect(await found(newTokenText())).toBeNull()
    })

    it('an active token keeps its name to itself, even if many ask at once', async () => {
      const all = await Promise.all(Array.from({ length: 8 }, () => create()))
      expect(all.filter(({ token }) => token !== null)).toHaveLength(1)
      expect((await create({ name: 'other' })).token).not.toBeNull()
      expect((await tokens().list()).map(({ name }) => name)).toEqual(['ci', 'other'])
    })

    it('is revoked by id or name, once, and can then be created again', async () => {
      const first = await create()
      const second = await create({ name: 'other' })
      expect(await tokens().revoke('ci')).toEqual({ ...first.token, state: 'revoked' })
      expect(await tokens().revoke(second.token?.id ?? '')).toEqual({ ...second.token, state: 'revoked' })
      expect(await tokens().list()).toEqual([])
      for (const key of ['ci', second.token?.id ?? '', 'nobody', '', "'\0\ud800%"]) {
        expect(await tokens().revoke(key)).toBeNull()
      }
      expect(await found(first.text)).toEqual({ ...first.token, state: 'revoked' })
      const again = await create()
      expect(again.token?.id).not.toBe(first.token?.id)
      expect((await found(first.text))?.state).toBe('revoked')
    })

    it('an id names a token before a name does', async () => {
      const first = await create()
      const id = first.token?.id ?? ''
      await create({ name: id })
      expect(await tokens().revoke(id)).toMatchObject({ name: 'ci' })
      expect(await tokens().revoke(id)).toMatchObject({ name: id })
    })

    it('expires at its time by the clock of the store, and gives its name to the next', async () => {
      const { text, token } = await create({ expiresInSeconds: 3600 })
      expect(token?.expiresAt).toBe(new Date(subject.clock + HOUR_MS).toISOString())
      subject.clock += HOUR_MS - 1
      expect((await found(text))?.state).toBe('active')
      expect((await create()).token).toBeNull()
      subject.clock += 1
      expect((await found(text))?.state).toBe('expired')
      expect(await tokens().list()).toMatchObject([{ name: 'ci', state: 'expired' }])
      const next = await create()
      expect(next.token?.state).toBe('active')
      expect((await found(text))?.state).toBe('expired')
      expect(await tokens().list()).toEqual([next.token])
    })

    it('one that was revoked in time does not expire', async () => {
      const { text } = await create({ expiresInSeconds: 3600 })
      await tokens().revoke('ci')
      subject.clock += 2 * HOUR_MS
      expect((await found(text))?.state).toBe('revoked')
    })

    it('records its last use, at most once a minute', async () => {
      const { text, token } = await create()
      const id = token?.id ?? ''
      const lastUse = async () => (await found(text))?.lastUsedAt
      await tokens().used(id)
      const first = now()
      expect(await lastUse()).toBe(first)
      // Another process does not know that it was written.
      await subject.reopen()
      subject.clock += 59_000
      await tokens().used(id)
      expect(await lastUse()).toBe(first)
      await subject.reopen()
      subject.clock += 2000
      await tokens().used(id)
      const second = now()
      expect(await lastUse()).toBe(second)
      subject.clock += HOUR_MS
      // This process has just written it.
      await tokens().used(id)
      expect(await lastUse()).toBe(second)
    })
  })
}
