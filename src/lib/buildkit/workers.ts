import { type Endpoint, responseLimit } from './endpoint.ts'
import { ControlService, type WorkerRecord } from './gen/control.ts'
import { GrpcConnection } from './grpc.ts'

/** BuildKit's workers, with their snapshotter, platforms and limits. */
export async function listWorkers(
  endpoint: Endpoint,
  signal = responseLimit(endpoint),
): Promise<WorkerRecord[]> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  return (await connection.unary(ControlService.listWorkers, { filter: [] }, signal)).record
}
