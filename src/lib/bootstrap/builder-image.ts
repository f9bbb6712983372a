import { createHash } from 'node:crypto'
import { access, readdir, readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type Dockerode from 'dockerode'
import { StatusResponse } from '../buildkit/gen/status.ts'
import { Progress } from '../buildkit/progress.ts'
import { ConveyorError } from '../core/errors.ts'
import { jsonLines } from '../docker/json-lines.ts'
import { type BootstrapStep, engineError } from './step.ts'
import { type TarFile, tarOf } from './tar.ts'

export interface BuilderImageOptions {
  docker: Dockerode
  /** Name of the image to build. */
  image: string
  /** Target in the Dockerfile; `builder` by default. */
  target?: string
  /** Build arguments, such as NODE_IMAGE. */
  buildArgs?: Record<string, string>
  /** Network of RUN steps; null for the engine's default. */
  network: string | null
  /** Login for the registry of the base image. */
  login?: Dockerode.AuthConfig | undefined
  /** Receives the progress, in whole lines. */
  log: (text: string) => void
}

/** Label with a hash of what an image was built from. */
const RECIPE = 'conveyor.recipe'
/** Folder of package.json: three levels up, in src as in dist. */
const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url))
/** What the Dockerfile copies; the same files that .dockerignore keeps. */
export const CONTEXT = [
  'Dockerfile',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'bin/run.js',
  'src',
]

/** Whether the files for the image are present: the npm package contains only what runs. */
async function canBuildImage(): Promise<boolean> {
  const found = await Promise.all(CONTEXT.map((path) => access(join(PACKAGE, path)).then(...ANSWER)))
  return !found.includes(false)
}

const ANSWER = [() => true, () => false] as const

/** Makes sure that the engine has a builder image, built from these files or not by bootstrap at all. */
export async function builderImage(options: BuilderImageOptions): Promise<BootstrapStep> {
  const what = `builder image ${options.image}`
  const labels = await labelsOf(options.docker, options.image)
  if (labels && labels[RECIPE] === undefined) {
    return { state: 'ok', text: `${what}, not built by bootstrap and left unchanged` }
  }
  if (!(await canBuildImage())) {
    if (labels) return { state: 'ok', text: what }
    throw new ConveyorError('invalid', `${what} can only be built in a checkout of Conveyor`, {
      hint: 'Run make bootstrap there, or skip it with --no-image: only --builder image and swarm need it',
    })
  }
  if (labels?.[RECIPE] === (await recipeOf(options)).hash) return { state: 'ok', text: what }
  await buildConveyorImage(options)
  return labels
    ? { state: 'updated', text: `${what}, rebuilt from newer files` }
    : { state: 'created', text: what }
}

async function labelsOf(docker: Dockerode, image: string): Promise<Record<string, string> | null> {
  try {
    return (await docker.getImage(image).inspect()).Config.Labels ?? {}
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return null
    throw engineError(`cannot inspect the image ${image}`, error)
  }
}

/** The context of an image, and a hash of everything it is built from. */
async function recipeOf({ target = 'builder', buildArgs = {} }: BuilderImageOptions) {
  const context = tarOf((await Promise.all(CONTEXT.map(filesAt))).flat())
  const hash = createHash('sha256')
    .update(JSON.stringify([target, buildArgs]))
    .update(context)
  return { context, hash: hash.digest('hex') }
}

/**
 * Builds Conveyor's own image in the engine, from the Dockerfile next to package.json.
 * @returns its id, `sha256:...`
 * @throws ConveyorError with the engine's error
 */
export async function buildConveyorImage(options: BuilderImageOptions): Promise<string> {
  const { docker, image, target = 'builder', buildArgs = {}, network, login, log } = options
  const { context, hash } = await recipeOf(options)
  const progress = new Progress()
  const failed = (why: string, cause?: unknown) =>
    new ConveyorError('unavailable', `building the image ${image} failed: ${why}`, {
      cause,
      hint: PULL.test(why)
        ? 'If the base image cannot be pulled, load it into the engine, or set another one: --build-arg NODE_IMAGE=IMAGE (Node 24 on Debian)'
        : 'See the last step above',
    })
  const stream = await docker
    .buildImage(context as unknown as NodeJS.ReadableStream, {
      version: '2',
      t: image,
      target,
      buildargs: buildArgs,
      labels: { [RECIPE]: hash },
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
      const status = StatusResponse.decode(Buffer.from(String(line.aux), 'base64'))
      for (const text of progress.render(status)) log(text.toString())
    }
  }
  if (!id) throw failed('the engine returned no image')
  return id
}

/** Matches errors about pulling the base image. */
const PULL = /pull|resolve|manifest|registry|docker\.io|failed to do request/i

interface BuildLine {
  error?: string
  id?: string
  /** The image's id, or a BuildKit status in base64. */
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
