import { once } from 'node:events'
import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import type { Context, ContextEntry } from '../source/source.ts'
import { followPaths } from './follow-paths.ts'
import { FileSyncService, Packet, Packet_PacketType, type Stat } from './gen/filesync.ts'
import type { Transfer } from './session.ts'

const { PACKET_STAT, PACKET_REQ, PACKET_DATA, PACKET_FIN, PACKET_ERR } = Packet_PacketType
const EMPTY = Buffer.alloc(0)
/** The largest piece of a file in one packet; what BuildKit's own sender uses. */
const PIECE = 32 * 1024
/** Files sent side by side, so that small ones are read together. */
const LANES = 16
/** Go's os.FileMode bits. */
const MODE_DIRECTORY = 2 ** 31
const MODE_SYMLINK = 2 ** 27
/**
 * Every file has this time in an image, so that the same content makes the same layer everywhere.
 * 1980-01-01, because older times cannot be stored in a zip archive, which build steps like to make.
 */
const MTIME_SECONDS = 315_532_800n

type Call = ServerDuplexStream<Packet, Packet>

/** FileSync as it is offered: files, nearly all that it sends, are copied once on their way instead of twice. */
export const FastFileSyncService = {
  ...FileSyncService,
  diffCopy: { ...FileSyncService.diffCopy, responseSerialize: encodePacket },
}

/** The same bytes as `Packet.encode`. */
export function encodePacket(packet: Packet): Buffer {
  const { type, stat, ID: id, data } = packet
  if (type !== PACKET_DATA || stat) return Buffer.from(Packet.encode(packet).finish())
  const head = [0x08, PACKET_DATA]
  if (id > 0) head.push(0x18, ...varint(id))
  if (data.length > 0) head.push(0x22, ...varint(data.length))
  const bytes = Buffer.allocUnsafe(head.length + data.length)
  bytes.set(head)
  bytes.set(data, head.length)
  return bytes
}

/** A whole number as protobuf writes it: 7 bits a byte, the lowest first. */
function varint(number: number): number[] {
  const bytes: number[] = []
  let rest = number
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80)
  return [...bytes, rest]
}

/**
 * The handler of FileSync/DiffCopy: sends what the engine lacks of a context. The engine first gets a
 * STAT of every entry, in walk order, and then asks for the content of those that differ from what it
 * kept of the last sync under the same shared key.
 */
export function serveFiles(context: Context, transfer: Transfer, onError: (error: Error) => void) {
  return (call: Call): void => {
    const ended = new AbortController()
    call.setMaxListeners(0) // every lane may wait for `drain`
    call.on('cancelled', () => ended.abort())
    sync(call, context, transfer, ended.signal).catch((error: Error) => {
      if (ended.signal.aborted) return
      onError(error)
      call.write({ type: PACKET_ERR, stat: undefined, ID: 0, data: Buffer.from(error.message) })
      call.emit('error', { code: status.ABORTED, details: error.message })
    })
  }
}

async function sync(call: Call, context: Context, transfer: Transfer, signal: AbortSignal): Promise<void> {
  const directory = call.metadata.get('dir-name')[0]?.toString() ?? 'context'
  const all = directory === 'dockerfile' ? context.dockerfileEntries : context.entries
  const wanted = metadataList(call, 'followpaths')
  const entries = wanted.length > 0 ? followPaths(all, wanted) : all

  // The engine may ask for the first files before it has seen the last STAT.
  await Promise.all([
    sendStats(call, entries, signal),
    answerRequests(call, context, entries, transfer, signal),
  ])
  call.end()
}

async function sendStats(call: Call, entries: ContextEntry[], signal: AbortSignal): Promise<void> {
  for (const entry of entries)
    await send(call, { type: PACKET_STAT, stat: statOf(entry), ID: 0, data: EMPTY }, signal)
  await send(call, { type: PACKET_STAT, stat: undefined, ID: 0, data: EMPTY }, signal)
}

async function answerRequests(
  call: Call,
  context: Context,
  entries: ContextEntry[],
  transfer: Transfer,
  signal: AbortSignal,
): Promise<void> {
  // Requests come far faster than files go out, so they are dealt to a few lanes that each send in turn.
  const lanes: Promise<void>[] = Array.from({ length: LANES }, () => Promise.resolve())
  let dealt = 0
  // Leaving the loop must not close the stream: our own FIN is still to be sent.
  for await (const packet of call.iterator({ destroyOnReturn: false }) as AsyncIterable<Packet>) {
    if (packet.type === PACKET_REQ) {
      const entry = entries[packet.ID]
      if (!entry) throw new Error(`the engine asked for file ${packet.ID} of ${entries.length}`)
      const lane = dealt++ % LANES
      lanes[lane] = (lanes[lane] as Promise<void>).then(() =>
        sendFile(call, context, entry, packet.ID, transfer, signal),
      )
      lanes[lane].catch((error: Error) => call.destroy(error)) // ends this loop, which reports it
    } else if (packet.type === PACKET_FIN) {
      await Promise.all(lanes)
      await send(call, { type: PACKET_FIN, stat: undefined, ID: 0, data: EMPTY }, signal)
      return
    } else if (packet.type === PACKET_ERR) {
      throw new Error(`the engine could not take the build context: ${packet.data.toString()}`)
    }
  }
}

async function sendFile(
  call: Call,
  context: Context,
  entry: ContextEntry,
  id: number,
  transfer: Transfer,
  signal: AbortSignal,
): Promise<void> {
  transfer.files++
  for await (const chunk of context.read(entry, signal)) {
    for (let at = 0; at < chunk.length; at += PIECE) {
      const data = Buffer.from(chunk.buffer, chunk.byteOffset + at, Math.min(PIECE, chunk.length - at))
      transfer.bytes += data.length
      await send(call, { type: PACKET_DATA, stat: undefined, ID: id, data }, signal)
    }
  }
  await send(call, { type: PACKET_DATA, stat: undefined, ID: id, data: EMPTY }, signal)
}

async function send(call: Call, packet: Packet, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  if (!call.write(packet)) await once(call, 'drain', { signal })
}

function statOf(entry: ContextEntry): Stat {
  const type = entry.kind === 'directory' ? MODE_DIRECTORY : entry.kind === 'symlink' ? MODE_SYMLINK : 0
  return {
    path: Buffer.from(entry.rawPath),
    mode: type + entry.mode,
    uid: 0,
    gid: 0,
    size: BigInt(entry.kind === 'symlink' ? entry.linkTarget.length : entry.size),
    modTime: MTIME_SECONDS * 1_000_000_000n + nanoseconds(entry),
    linkname: Buffer.from(entry.linkTarget),
  }
}

/**
 * The engine tells a changed file by its size and time, to the nanosecond. Taking the nanoseconds from
 * the content's id makes them change with the content; layers keep whole seconds only.
 */
function nanoseconds(entry: ContextEntry): bigint {
  return entry.kind === 'file'
    ? BigInt(Number.parseInt(entry.contentId.slice(0, 12), 16) % 1_000_000_000)
    : 0n
}

/** Several values of one key arrive as one string, joined by `, `. */
function metadataList(call: Call, key: string): string[] {
  return call.metadata
    .get(key)
    .flatMap((value) => value.toString().split(', '))
    .filter((value) => value !== '')
}
