import { excerptOf, type SourceExcerpt } from '../core/timeline.ts'
import { RpcStatus } from './gen/control.ts'
import { GrpcError } from './grpc.ts'

/** The detail with the place of an error; BuildKit writes details in JSON. */
const SOURCE = /(?:^|\/)errdefs\.Source(?:\+json)?$/

/** The lines of the Dockerfile that BuildKit says an error is about; null if it does not say so. */
export function reportedExcerpt(error: unknown): SourceExcerpt | null {
  if (!(error instanceof GrpcError) || error.details === undefined) return null
  try {
    const { details } = RpcStatus.decode(Buffer.from(error.details, 'base64'))
    for (const { typeUrl, value } of details) {
      const excerpt = SOURCE.test(typeUrl) ? fromJson(JSON.parse(value.toString('utf8'))) : null
      if (excerpt) return excerpt
    }
  } catch {
    // They are malformed; the error itself counts.
  }
  return null
}

/** One for each line of an instruction. */
const MOST_RANGES = 1000

/** Frontends are images that anybody can write: nothing about their errors is certain. */
function fromJson(source: unknown): SourceExcerpt | null {
  const { info, ranges } = fieldsOf(source)
  const { filename, data } = fieldsOf(info)
  if (typeof filename !== 'string' || typeof data !== 'string' || !Array.isArray(ranges)) return null
  const lines = ranges.slice(0, MOST_RANGES).map((range) => {
    const { start, end } = fieldsOf(range)
    return { first: Number(fieldsOf(start).line), last: Number(fieldsOf(end).line ?? 0) }
  })
  return excerptOf(filename, Buffer.from(data, 'base64').toString('utf8'), lines)
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
