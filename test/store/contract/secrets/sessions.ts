import { describe, expect, it } from 'vitest'
import {
  isSessionKey,
  newSessionKey,
  sealed,
  sessionHash,
  unsealed,
} from '../../../../src/lib/core/access/session.ts'
import type { Subject } from '../subject.ts'

/** Sessions of people who have signed in: the store has the hashes of their keys. */
export function sessions(subject: Subject): void {
  describe('sessions', () => {
    const all = () => subject.store.sessions
    const alice = { id: 583_231, login: 'alice' }

    it('a session is found by the hash of its key until its end', async () => {
      const key = newSessionKey()
      const session = { person: alice, sealed: sealed('ghu_token-of-alice', key) }
      await all().start(sessionHash(key), session, 3600)
      await subject.reopen()
      expect(await all().find(sessionHash(key))).toEqual(session)
      expect(await all().find(key)).toBeNull()
      subject.clock += 3_599_000
      expect(await all().find(sessionHash(key))).not.toBeNull()
      subject.clock += 2_000
      expect(await all().find(sessionHash(key))).toBeNull()
    })

    it('ends with a sign-out, and alone', async () => {
      const [one, other] = [newSessionKey(), newSessionKey()]
      for (const key of [one, other]) await all().start(sessionHash(key), { person: alice, sealed: 'x' }, 60)
      await all().end(sessionHash(one))
      await all().end(sessionHash(one))
      expect(await all().find(sessionHash(one))).toBeNull()
      expect(await all().find(sessionHash(other))).toMatchObject({ person: alice })
    })

    it('its token is read only with its key', () => {
      const key = newSessionKey()
      const text = sealed('ghu_token-of-alice', key)
      expect(isSessionKey(key)).toBe(true)
      expect(text).not.toContain(Buffer.from('ghu_').toString('base64').slice(0, 5))
      expect(unsealed(text, key)).toBe('ghu_token-of-alice')
      for (const wrong of [newSessionKey(), sessionHash(key)]) expect(unsealed(text, wrong)).toBeNull()
      expect(unsealed('', key)).toBeNull()
    })
  })
}
