import { expect, test } from 'vitest'
import { Packet, Packet_PacketType } from '../../src/lib/buildkit/gen/filesync.ts'
import { encodePacket } from '../../src/lib/buildkit/session/file-sync.ts'

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
