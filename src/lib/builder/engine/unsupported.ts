import type Dockerode from 'dockerode'
import { ConveyorError } from '../../core/errors.ts'
import { engineDown } from '../../docker/errors.ts'
import { request } from '../../docker/request.ts'
import { isAtLeast } from '../../util/versions.ts'
import type { BuildInput } from '../builder.ts'

/** The first API version (Docker 23) whose BuildKit supports ulimits. */
const LIMITS_SINCE = '1.42'

/**
 * Rejects settings that an engine with the classic image store would silently ignore.
 * @throws ConveyorError `invalid`, or `unavailable` if the engine is
 */
export async function checkSupported(docker: Dockerode, input: BuildInput): Promise<void> {
  checkSingleManifest(input)
  if (input.reproducible) {
    throw new ConveyorError(
      'invalid',
      'the classic image store of the Docker engine cannot rewrite file times',
      {
        hint: "Enable the engine's containerd image store, use --builder buildkit, or omit --reproducible",
      },
    )
  }
  if (Object.keys(input.ulimits).length === 0) return
  const { Version, ApiVersion } = await request<Dockerode.DockerVersion>(docker, 'GET', '/version').catch(
    engineDown,
  )
  if (isAtLeast(LIMITS_SINCE, ApiVersion)) return
  throw new ConveyorError('invalid', `Docker ${Version} does not support ulimits for RUN steps`, {
    hint: 'Use Docker 23 or newer, or --builder buildkit, or omit --build.ulimit',
  })
}

/** The classic image store has a single manifest per image, and cannot hold attestations. */
function checkSingleManifest({ platforms, attest }: BuildInput): void {
  const unsupported =
    platforms.length > 1 ? 'a multi-platform image' : attest[0] && `attestations (${attest[0]})`
  if (!unsupported) return
  throw new ConveyorError(
    'invalid',
    `the classic image store of the Docker engine cannot hold ${unsupported}`,
    {
      hint: "Enable the engine's containerd image store, use --builder buildkit, or omit --attest and all but one --platform",
    },
  )
}
