import type { Endpoint } from './endpoint.ts'
import { ControlService, type WorkerRecord } from './gen/control.ts'
import { GrpcConnection } from './grpc.ts'

/** What BuildKit says of itself: how it keeps layers, for which platforms it builds, its limits. */
export async function listWorkers(endpoint: Endpoint, signal?: AbortSignal): Promise<WorkerRecord[]> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  return (await connection.unary(ControlService.listWorkers, { filter: [] }, signal)).record
}
