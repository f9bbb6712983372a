import { describe, expect, it } from 'vitest'
import type { Subject } from '../subject.ts'

/** Secrets that all processes share and nobody else may know. */
export function secrets(subject: Subject): void {
  describe('secrets', () => {
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

    it('are 32 bytes by name, the same for concurrent callers and after a restart', async () => {
      const all = await Promise.all(Array.from({ length: 20 }, () => subject.store.secret('one')))
      const [first = ''] = all.map(hex)
      expect(first).toMatch(/^[0-9a-f]{64}$/)
      expect(new Set(all.map(hex))).toEqual(new Set([first]))
      expect(hex(await subject.store.secret('two'))).not.toBe(first)
      await subject.reopen()
      expect(hex(await subject.store.secret('one'))).toBe(first)
    })
  })
}
