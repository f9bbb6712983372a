import type Dockerode from 'dockerode'
import { ConveyorError } from '../../core/errors.ts'
import { engineDown } from '../../docker/errors.ts'
import { isAtLeast } from '../../util/versions.ts'
import type { BuildInput } from '../builder.ts'

/** The first version of the engine's API (Docker 23) whose BuildKit limits steps. */
const LIMITS_SINCE = '1.42'

/**
 * Refuses a build of which an engine with the classic image store would leave out something without a word.
 * @throws ConveyorError `invalid`, or `unavailable` when the engine is
 */
export async function checkSupported(docker: Dockerode, input: BuildInput): Promise<void> {
  checkSingleManifest(input)
  if (input.reproducible) {
    throw new ConveyorError(
      'invalid',
      'the classic image store of the Docker engine keeps the times of files as they are',
      {
        hint: 'Turn on the containerd image store of the engine, use --builder buildkit, or leave out --reproducible',
      },
    )
  }
  if (Object.keys(input.ulimits).length === 0) return
  const { Version, ApiVersion } = await docker.version().catch(engineDown)
  if (isAtLeast(LIMITS_SINCE, ApiVersion)) return
  throw new ConveyorError('invalid', `Docker ${Version} cannot limit what RUN steps use`, {
    hint: 'Use Docker 23 or newer, or --builder buildkit, or leave out --build.ulimit',
  })
}

/** The classic image store has one manifest an image, and no place for what is said of it. */
function checkSingleManifest({ platforms, attest }: BuildInput): void {
  const wanted = platforms.length > 1 ? 'several platforms in one image' : attest[0]
  if (!wanted) return
  throw new ConveyorError(
    'invalid',
    `the classic image store of the Docker engine has no place for ${wanted}`,
    {
      hint: 'Turn on the containerd image store of the engine, use --builder buildkit, or leave out --attest and all but one --platform',
    },
  )
}
