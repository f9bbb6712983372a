import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

/** A span as a collector received it. */
export interface ReceivedSpan {
  traceId: string
  spanId: string
  /** Empty for a root. */
  parentSpanId: string
  name: string
  kind: number
  /** In milliseconds since 1970. */
  startedAt: number
  endedAt: number
  attributes: Record<string, string | number | boolean>
  /** 2 is an error. */
  status: number
  /** Attributes of the process that sent it. */
  resource: Record<string, string | number | boolean>
}

export interface Collector extends AsyncDisposable {
  readonly url: string
  readonly spans: ReceivedSpan[]
  /** The headers of the newest request. */
  headers: Record<string, unknown>
}

/** A collector that receives OTLP over HTTP in protobuf, and decodes it by the numbers of opentelemetry/proto/trace/v1. */
export async function startCollector(): Promise<Collector> {
  const spans: ReceivedSpan[] = []
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const body = Buffer.concat(pieces)
    collector.headers = request.headers
    const isTraces =
      request.url === '/v1/traces' && request.headers['content-type'] === 'application/x-protobuf'
    if (isTraces)
      spans.push(...decode(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body))
    response.writeHead(isTraces ? 200 : 400, { 'content-type': 'application/x-protobuf' }).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const collector: Collector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    headers: {},
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return collector
}

type Field = Uint8Array | number | bigint
type Message = Map<number, Field[]>

/** The fields of a message by number, undecoded. */
function message(bytes: Uint8Array): Message {
  const reader = new BinaryReader(bytes)
  const fields: Message = new Map()
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag()
    const value = read(reader, type)
    fields.set(number, [...(fields.get(number) ?? []), value])
  }
  return fields
}

function read(reader: BinaryReader, type: WireType): Field {
  switch (type) {
    case WireType.Varint:
      return BigInt(reader.uint64())
    case WireType.Bit64:
      return BigInt(reader.fixed64())
    case WireType.Bit32:
      return reader.fixed32()
    case WireType.LengthDelimited:
      return reader.bytes()
    default:
      throw new Error(`wire type ${type} is not used by OTLP`)
  }
}

function parts(fields: Message, number: number): Message[] {
  return (fields.get(number) ?? []).map((one) => message(one as Uint8Array))
}

function bytes(fields: Message, number: number): Buffer {
  return Buffer.from((fields.get(number)?.[0] as Uint8Array | undefined) ?? [])
}

function whole(fields: Message, number: number): number {
  return Number(fields.get(number)?.[0] ?? 0)
}

/** Nanoseconds have more digits than a number: to the microsecond. */
function milliseconds(fields: Message, number: number): number {
  return Number(BigInt((fields.get(number)?.[0] as bigint | undefined) ?? 0n) / 1000n) / 1000
}

/** ExportTraceServiceRequest > ResourceSpans > ScopeSpans > Span. */
function decode(body: Uint8Array): ReceivedSpan[] {
  return parts(message(body), 1).flatMap((resourceSpans) => {
    const resource = attributes(parts(resourceSpans, 1)[0] ?? new Map(), 1)
    return parts(resourceSpans, 2)
      .flatMap((scope) => parts(scope, 2))
      .map((span) => ({
        traceId: bytes(span, 1).toString('hex'),
        spanId: bytes(span, 2).toString('hex'),
        parentSpanId: bytes(span, 4).toString('hex'),
        name: bytes(span, 5).toString(),
        kind: whole(span, 6),
        startedAt: milliseconds(span, 7),
        endedAt: milliseconds(span, 8),
        attributes: attributes(span, 9),
        status: whole(parts(span, 15)[0] ?? new Map(), 3),
        resource,
      }))
  })
}

/** KeyValue { key = 1; AnyValue value = 2 } with a string (1), bool (2) or int (3). */
function attributes(fields: Message, number: number): ReceivedSpan['attributes'] {
  const entries = parts(fields, number).map((pair) => {
    const value = parts(pair, 2)[0] ?? new Map()
    const known = value.has(1)
      ? bytes(value, 1).toString()
      : value.has(2)
        ? whole(value, 2) === 1
        : whole(value, 3)
    return [bytes(pair, 1).toString(), known] as const
  })
  return Object.fromEntries(entries)
}
