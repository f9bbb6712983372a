import { EventEmitter } from 'node:events'
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { Packet, Packet_PacketType } from '../../src/lib/buildkit/gen/filesync.ts'
import { encodePacket, serveFiles } from '../../src/lib/buildkit/session/file-sync.ts'
import { FileTimes } from '../../src/lib/buildkit/session/file-times.ts'
import { memoryContext } from '../support/context/memory-context.ts'

const { PACKET_DATA, PACKET_ERR, PACKET_FIN, PACKET_REQ } = Packet_PacketType

test.each([0, 1, 127, 128, 16_383, 16_384, 20_000_000, 2 ** 32 - 1])(
  'file %i is sent as protobuf encodes it',
  (ID) => {
    for (const length of [0, 1, 127, 128, 32_768]) {
      const data = Buffer.alloc(length, 0xa5)
      for (const type of [PACKET_DATA, PACKET_FIN]) {
        const packet = { type, stat: undefined, ID, data }
        expect(encodePacket(packet).equals(Packet.encode(packet).finish())).toBe(true)
      }
    }
  },
)

/** Serves a call with these headers, in which BuildKit sends one packet; returns what BuildKit and the build got. */
async function served(headers: Record<string, string>, packet: Partial<Packet>) {
  const context = memoryContext({ Dockerfile: '', 'docs/a': '', 'docs/b': '', 'src/c': '' })
  const paths: string[] = []
  const sent: Packet_PacketType[] = []
  const ended = Promise.withResolvers<void>()
  const call = Object.assign(new EventEmitter(), {
    metadata: Metadata.fromHttp2Headers(headers),
    write({ stat, type }: Packet) {
      if (stat) paths.push(Buffer.from(stat.path).toString())
      sent.push(type)
      return true
    },
    async *iterator() {
      yield { type: PACKET_FIN, stat: undefined, ID: 0, data: Buffer.alloc(0), ...packet }
    },
    end: ended.resolve,
    destroy() {},
  })
  const statuses: unknown[] = []
  call.on('error', (status) => {
    statuses.push(status)
    ended.resolve()
  })
  const errors: Error[] = []
  const onError = (error: Error) => void errors.push(error)
  const times = FileTimes.of(context, null, null)
  const serve = serveFiles({ context, times, transfer: { files: 0, bytes: 0 }, onError })
  serve(call as unknown as ServerDuplexStream<Packet, Packet>)
  await ended.promise
  return { paths, sent, statuses, errors }
}

/** The paths that a call with these headers announces to a BuildKit that has all files already. */
async function announced(headers: Record<string, string>): Promise<string[]> {
  const { paths, sent, errors } = await served(headers, {})
  expect(errors).toEqual([])
  expect(sent).toContain(PACKET_FIN)
  return paths
}

test('a call gets neither what it does not request, nor what it excludes', async () => {
  expect(await announced({ 'exclude-patterns': 'docs, !docs/b' })).toEqual([
    'Dockerfile',
    'docs',
    'docs/b',
    'src',
    'src/c',
  ])
  expect(await announced({ followpaths: 'docs', 'exclude-patterns': 'docs/a' })).toEqual(['docs', 'docs/b'])
  expect(await announced({ followpaths: 'docs/a', 'exclude-patterns': 'docs/a' })).toEqual([])
})

test('a transfer that BuildKit cancels is not an error of ours: the error of its build says what failed', async () => {
  const packet = { type: PACKET_ERR, data: Buffer.from('context canceled') }
  const { sent, statuses, errors } = await served({}, packet)
  expect(errors).toEqual([])
  expect(sent).not.toContain(PACKET_ERR)
  expect(statuses).toMatchObject([{ details: expect.stringContaining('context canceled') }])
})

test('a request for a file that does not exist is an error of ours, and BuildKit gets it, too', async () => {
  const { sent, statuses, errors } = await served({}, { type: PACKET_REQ, ID: 99 })
  expect(errors).toMatchObject([{ message: 'BuildKit requested file 99 of 6' }])
  expect(sent).toContain(PACKET_ERR)
  expect(statuses).toHaveLength(1)
})
