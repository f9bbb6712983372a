import { EventEmitter } from 'node:events'
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { Packet, Packet_PacketType } from '../../src/lib/buildkit/gen/filesync.ts'
import { encodePacket, serveFiles } from '../../src/lib/buildkit/session/file-sync.ts'
import { FileTimes } from '../../src/lib/buildkit/session/file-times.ts'
import { memoryContext } from '../support/context/memory-context.ts'

const { PACKET_DATA, PACKET_FIN } = Packet_PacketType

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

/** The paths that a call with these headers announces. */
async function announced(headers: Record<string, string>): Promise<string[]> {
  const context = memoryContext({ Dockerfile: '', 'docs/a': '', 'docs/b': '', 'src/c': '' })
  const paths: string[] = []
  const ended = Promise.withResolvers<void>()
  const call = Object.assign(new EventEmitter(), {
    metadata: Metadata.fromHttp2Headers(headers),
    write({ stat, type }: Packet) {
      if (stat) paths.push(Buffer.from(stat.path).toString())
      if (type === PACKET_FIN) ended.resolve()
      return true
    },
    // BuildKit has all files already.
    async *iterator() {
      yield { type: PACKET_FIN, stat: undefined, ID: 0, data: Buffer.alloc(0) }
    },
    end() {},
    destroy() {},
  })
  const times = FileTimes.of(context, null, null)
  const serve = serveFiles({ context, times, transfer: { files: 0, bytes: 0 }, onError: ended.reject })
  serve(call as unknown as ServerDuplexStream<Packet, Packet>)
  await ended.promise
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
