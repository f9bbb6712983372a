import type { Endpoint } from './endpoint.ts'
import { ControlService } from './gen/control.ts'
import { GrpcCode, GrpcConnection, GrpcError } from './grpc.ts'

const COMPLETE = 1
/** What a build is remembered by: an attribute that frontends pay no heed to. */
const SUBJECT = 'conveyor:subject'

/** What makes a build of it remembered under this name. */
export function remembered(subject: string): Record<string, string> {
  return { [SUBJECT]: subject }
}

/**
 * Whether BuildKit remembers a build under this name that succeeded. It remembers the last 50 of two days,
 * unless it is told otherwise; before v0.11 none.
 */
export async function hasBuilt(endpoint: Endpoint, subject: string): Promise<boolean> {
  await using connection = new GrpcConnection(await endpoint.connect())
  const request = { ActiveOnly: false, Ref: '', EarlyExit: true }
  try {
    for await (const event of connection.stream(ControlService.listenBuildHistory, request)) {
      const { record } = event
      if (event.type === COMPLETE && !record?.error && record?.FrontendAttrs[SUBJECT] === subject) return true
    }
    return false
  } catch (error) {
    if (error instanceof GrpcError && error.code === GrpcCode.unimplemented) return false
    throw error
  }
}
