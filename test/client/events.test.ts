import { describe, expect, it } from 'vitest'
import { readEvents } from '../../src/lib/client/connection.ts'

describe('readEvents', () => {
  const text =
    ': hi\r\nid: 3\nevent: log\ndata:{"a":\ndata: "é🏗"}\n\n\nevent: empty\n\ndata: x\n\nevent: cut\ndata: y\n'
  it('reads the same events however they are split', async () => {
    const bytes = Buffer.from(text)
    for (let size = 1; size <= bytes.length; size++) {
      const pieces = async function* () {
        for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
      }
      const events = []
      for await (const event of readEvents(pieces())) events.push(event)
      expect(events).toEqual([
        { event: 'log', data: '{"a":\n"é🏗"}' },
        { event: 'message', data: 'x' },
      ])
    }
  })

  it('refuses an endless event', async () => {
    const endless = async function* () {
      for (;;) yield Buffer.alloc(1024 * 1024, 0x78)
    }
    await expect(readEvents(endless()).next()).rejects.toThrow(/is too long/)
    const lines = async function* () {
      for (;;) yield Buffer.from('data: x\n'.repeat(100_000))
    }
    await expect(readEvents(lines()).next()).rejects.toThrow(/is too long/)
  })

  it('reads a long line that comes in small pieces', async () => {
    const pieces = async function* () {
      yield Buffer.from('data: ')
      for (let i = 0; i < 100_000; i++) yield Buffer.alloc(100, 0x78)
      yield Buffer.from('\n\n')
    }
    const { value } = await readEvents(pieces()).next()
    expect(value.data).toHaveLength(10_000_000)
  })
})
