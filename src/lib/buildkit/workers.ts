import { type Endpoint, responseLimit } from './endpoint.ts'
import { ControlService, type Platform, type WorkerRecord } from './gen/control.ts'
import { GrpcConnection } from './grpc.ts'

/** BuildKit's workers, with their snapshotter, platforms and limits. */
export async function listWorkers(
  endpoint: Endpoint,
  signal = responseLimit(endpoint),
): Promise<WorkerRecord[]> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  return (await connection.unary(ControlService.listWorkers, { filter: [] }, signal)).record
}

/** The platform of images that are built for no particular one, as the Dockerfile frontend chooses it; null if not known. */
export async function ownPlatform(endpoint: Endpoint): Promise<string | null> {
  const platform = (await listWorkers(endpoint))[0]?.platforms[0]
  return platform ? platformName(platform) : null
}

/** `linux/arm/v7` */
export function platformName({ OS, Architecture, Variant }: Platform): string {
  return [OS, Architecture, Variant].filter(Boolean).join('/')
}
