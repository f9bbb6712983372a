import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { failed, OTHER_SHA, push, request, type Subject } from './subject.ts'

export function keeping(subject: Subject): void {
  describe('the final status', () => {
    it('is unreported from the end of a build until it is marked', async () => {
      const a = await subject.accepted(push('main', { sha: '1'.repeat(40) }))
      const b = await subject.accepted(push('main', { sha: '2'.repeat(40) }))
      const c = await subject.accepted(push('main', { sha: '3'.repeat(40) }))
      await subject.claimed(b.id)
      expect(await subject.store.unreported()).toEqual([])
      const endedC = await subject.ended(c.id, failed('no', 'cancelled'))
      const endedA = await subject.ended(a.id)
      expect(await subject.store.unreported()).toEqual([endedA, endedC])
      await subject.store.markReported(a.id)
      await subject.store.markReported(a.id)
      expect(await subject.store.unreported()).toEqual([endedC])
    })

    it('is unreported for so many seconds', async () => {
      const { id } = await subject.accepted(push('main'))
      expect(await subject.store.isUnreported(id)).toBe(false)
      await subject.ended(id)
      subject.clock += 59_999
      expect(await subject.store.unreported(60)).toEqual([])
      expect(await subject.store.isUnreported(id)).toBe(true)
      subject.clock += 1
      expect(await subject.store.unreported(60)).toHaveLength(1)
      await subject.store.markReported(id)
      expect(await subject.store.unreported(60)).toEqual([])
      expect(await subject.store.isUnreported(id)).toBe(false)
      expect(await subject.store.isUnreported('no such build')).toBe(false)
    })

    it('cannot be marked before the end, nor for a missing build', async () => {
      const { id } = await subject.accepted(push('main'))
      await subject.store.markReported(id)
      await subject.store.markReported('no such build')
      await subject.ended(id)
      expect(await subject.store.unreported()).toHaveLength(1)
    })

    it('stays reported when the commit is delivered or built again', async () => {
      const asked = push('main')
      const { id } = await subject.accepted(asked)
      await subject.ended(id)
      await subject.store.markReported(id)
      await subject.store.accept(asked)
      await subject.accepted(push('main'))
      expect(await subject.store.unreported()).toEqual([])
    })
  })

  describe('durability', () => {
    it('still has everything after it is reopened', async () => {
      const asked = push('main')
      const done = await subject.accepted(asked)
      await subject.ended(done.id)
      await subject.accepted(push('main', { sha: OTHER_SHA }))
      const waiting = await subject.accepted(push('dev', { sha: OTHER_SHA }))
      await subject.store.moveTags('image', [{ tag: 'main', sequence: 5 }], async () => {})
      const before = [
        await subject.read(done.id),
        await subject.store.artifactOf(done.id),
        await subject.store.reserveSequence(),
      ]

      await subject.reopen()
      expect([await subject.read(done.id), await subject.store.artifactOf(done.id)]).toEqual(
        before.slice(0, 2),
      )
      expect(await subject.store.unfinished()).toEqual([waiting])
      expect(await subject.store.unreported()).toEqual([before[0]])
      expect((await subject.store.accept(asked)).outcome).toBe('redelivered')
      expect(await subject.store.moveTags('image', [{ tag: 'main', sequence: 4 }], async () => {})).toEqual(
        [],
      )
      expect(await subject.store.reserveSequence()).toBeGreaterThan(before[2] as number)
    })

    it('has stored all writes when it is closed', async () => {
      const asked = Array.from({ length: 100 }, (_, i) =>
        subject.store.accept(push('main', { sha: i.toString(16).padStart(40, '0') })),
      )
      await subject.store.close()
      await subject.store.close()
      expect((await Promise.all(asked)).map(({ outcome }) => outcome)).not.toContain('joined')
      await expect(subject.store.accept(push('main'))).rejects.toMatchObject({ name: 'ConveyorError' })
      await subject.reopen()
      expect(await subject.store.unfinished()).toHaveLength(100)
    })

    it('loses nothing that was accepted when its process is killed right away', async () => {
      await subject.store.close()
      const child = spawn(process.execPath, [
        '--input-type=module',
        '--eval',
        `${subject.opened.openInChild}
          const request = ${JSON.stringify(push('main'))}
          for (let i = 0; ; i++) {
            request.source.delivery = 'killed-' + i
            const sha = i.toString(16).padStart(40, '0')
            const { build } = await store.accept({ ...request, sha })
            process.stdout.write(build.id + '\\n')
          }`,
      ])
      let printed = ''
      let complaints = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text
        if (printed.length > 37 * 20) child.kill('SIGKILL')
      })
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        complaints += text
      })
      const [, signal] = await once(child, 'close')
      expect(signal, complaints).toBe('SIGKILL')

      // The child used the real time.
      subject.clock = Date.now()
      await subject.reopen()
      const ids = printed.split('\n').slice(0, -1)
      expect(ids.length).toBeGreaterThanOrEqual(20)
      for (const [i, id] of ids.entries()) {
        expect(await subject.store.get(id)).toMatchObject({ state: 'pending', refs: [{ name: 'main' }] })
        const source = { kind: 'webhook', delivery: `killed-${i}` } as const
        expect(await subject.store.accept(request({ source }))).toMatchObject({
          outcome: 'redelivered',
          build: { id },
        })
      }
    })
  })
}
