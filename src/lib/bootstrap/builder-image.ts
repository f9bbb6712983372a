import { access, readdir, readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type Dockerode from 'dockerode'
import { jsonLines } from '../builder/json-lines.ts'
import { StatusResponse } from '../buildkit/gen/status.ts'
import { Progress } from '../buildkit/progress.ts'
import { ConveyorError } from '../errors.ts'
import { type TarFile, tarOf } from './tar.ts'

export interface BuilderImageOptions {
  docker: Dockerode
  /** Name of the image that is made. */
  image: string
  /** Target in the Dockerfile; `builder` by default. */
  target?: string
  /** Arguments of the Dockerfile, such as NODE_IMAGE. */
  buildArgs?: Record<string, string>
  /** Network of RUN steps; null leaves it to the engine. */
  network: string | null
  /** Login for the registry of the base image. */
  login?: Dockerode.AuthConfig | undefined
  /** Told of the progress, in whole lines. */
  log: (text: string) => void
}

/** Where package.json is: two folders up in the source as in dist. */
const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url))
/** What the Dockerfile copies; the same as .dockerignore leaves. */
export const CONTEXT = [
  'Dockerfile',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'bin/run.js',
  'src',
]

/** Whether the files are here that the image is made of. The npm package has only what runs. */
export async function canBuildImage(): Promise<boolean> {
  const found = await Promise.all(CONTEXT.map((path) => access(join(PACKAGE, path)).then(...ANSWER)))
  return !found.includes(false)
}

const ANSWER = [() => true, () => false] as const

/**
 * Builds Conveyor's own image, from the Dockerfile beside package.json, in the engine.
 * @returns its id, `sha256:...`
 * @throws ConveyorError with what the engine says
 */
export async function buildConveyorImage(options: BuilderImageOptions): Promise<string> {
  const { docker, image, target = 'builder', buildArgs = {}, network, login, log } = options
  const files = (await Promise.all(CONTEXT.map(filesAt))).flat()
  const progress = new Progress()
  const failed = (why: string, cause?: unknown) =>
    new ConveyorError('unavailable', `the image ${image} could not be built: ${why}`, {
      cause,
      hint: 'Look at the last step above; the base image is named with --build-arg NODE_IMAGE=...',
    })
  const stream = await docker
    .buildImage(tarOf(files) as unknown as NodeJS.ReadableStream, {
      version: '2',
      t: image,
      target,
      buildargs: buildArgs,
      ...(network ? { networkmode: network } : {}),
      ...(login ? { authconfig: login } : {}),
    })
    .catch((error: Error) => {
      throw failed(error.message, error)
    })
  let id: string | undefined
  for await (const line of jsonLines<BuildLine>(stream as IncomingMessage)) {
    if (line.error !== undefined) throw failed(line.error)
    if (line.id === 'moby.image.id') id = line.aux?.ID
    else if (line.id === 'moby.buildkit.trace') {
      const text = progress.render(StatusResponse.decode(Buffer.from(String(line.aux), 'base64')))
      if (text.length > 0) log(text.toString())
    }
  }
  if (!id) throw failed('the engine ended the build without a result')
  return id
}

interface BuildLine {
  error?: string
  id?: string
  /** The image's id, or a trace in base64. */
  aux?: { ID?: string }
}

async function filesAt(path: string): Promise<TarFile[]> {
  const full = join(PACKAGE, path)
  if (path !== 'src')
    return [{ path, content: await readFile(full), mode: path.startsWith('bin/') ? 0o755 : 0o644 }]
  const entries = await readdir(full, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return Promise.all(
    files.sort().map(async (file) => ({ path: file.slice(PACKAGE.length), content: await readFile(file) })),
  )
}
