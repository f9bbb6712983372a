import { type Endpoint, responseLimit } from './endpoint.ts'
import { ControlService } from './gen/control.ts'
import { GrpcCode, GrpcConnection, GrpcError } from './grpc.ts'

const COMPLETE = 1
/** The attribute that labels a build in BuildKit's history; frontends ignore it. */
const SUBJECT = 'conveyor:subject'

/** Labels a build in BuildKit's history. */
export function subjectAttr(subject: string): Record<string, string> {
  return { [SUBJECT]: subject }
}

/**
 * Whether BuildKit's history has a successful build with this label. By default it keeps the last 50 builds of two days;
 * before v0.11 there is no history.
 */
export async function hasBuilt(endpoint: Endpoint, subject: string): Promise<boolean> {
  const limit = responseLimit(endpoint)
  await using connection = new GrpcConnection(await endpoint.connect(limit))
  const request = { ActiveOnly: false, Ref: '', EarlyExit: true }
  try {
    for await (const event of connection.stream(ControlService.listenBuildHistory, request, limit)) {
      const { record } = event
      if (event.type === COMPLETE && !record?.error && record?.FrontendAttrs[SUBJECT] === subject) return true
    }
    return false
  } catch (error) {
    if (error instanceof GrpcError && error.code === GrpcCode.unimplemented) return false
    throw error
  }
}
