import { describe, expect, it } from 'vitest'
import type { Subject } from './subject.ts'

const FILES = Buffer.from([0, 1, 2, 255])

/** What is recorded about each BuildKit's files. */
export function syncs(subject: Subject): void {
  describe('syncs', () => {
    const begin = (token: string, buildkit = 'one', repository = 'acme/app') =>
      subject.store.syncs.begin(buildkit, repository, token)
    const end = (token: string, files: Uint8Array | null = FILES) =>
      subject.store.syncs.end('one', 'acme/app', token, files)
    const bytes = (found: Uint8Array | null) => found && Buffer.from(found)

    it('the record of a sync is for the next one of the same repository on the same BuildKit', async () => {
      expect(await begin('a')).toBeNull()
      await end('a')
      expect(bytes(await begin('b'))).toEqual(FILES)
      await end('b', Buffer.from('more'))
      expect(bytes(await begin('c'))).toEqual(Buffer.from('more'))
      expect(await begin('d', 'two')).toBeNull()
      expect(await begin('e', 'one', 'acme/other')).toBeNull()
    })

    it('there is no record while a sync runs, and after an unfinished one', async () => {
      await begin('a')
      await end('a')
      await begin('b')
      expect(await begin('c')).toBeNull()
      await end('c')
      expect(bytes(await begin('d'))).toEqual(FILES)
    })

    it('overlapping syncs leave no record, whichever ends last', async () => {
      await begin('a')
      await begin('b')
      await end('a')
      await end('b')
      expect(await begin('c')).toBeNull()
      await begin('d')
      await end('d')
      await end('c')
      expect(await begin('e')).toBeNull()
    })

    it('a sync may end without a record', async () => {
      await begin('a')
      await end('a')
      await begin('b')
      await end('b', null)
      expect(await begin('c')).toBeNull()
    })
  })
}
