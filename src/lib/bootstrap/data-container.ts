import { posix } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { splitReference } from '../registry/image-name.ts'
import { type BootstrapStep, engineError } from './step.ts'
import { firstFile, type TarFile, tarOf } from './tar.ts'

export interface DataContainerOptions {
  docker: Dockerode
  name: string
  /** By their paths in FOLDER. */
  files: Record<string, string>
}

/** Folder of the secrets for builder images, in a volume of the data container. */
const FOLDER = '/var/run/conveyor'
/** Marks a container that bootstrap created and may update. */
const LABEL = 'conveyor.bootstrap'
/** An image without files: the container never runs. */
const EMPTY_IMAGE = 'conveyor-data:empty'
/**
 * Owner of the files: the user of the server's image. Root in a builder image can read them, too: ssh checks the
 * mode of a key only if the current user owns it.
 */
const OWNER = 1000

/**
 * Creates the container whose volumes builder images mount (`--volumes-from`), or updates one that bootstrap created
 * before. A container that was created otherwise gets only the files that it lacks.
 */
export async function dataContainer({ docker, name, files }: DataContainerOptions): Promise<BootstrapStep> {
  const what = `container ${name}`
  try {
    const found = await inspect(docker, name)
    if (found && !found.Mounts.some(({ Destination }) => FOLDER.startsWith(Destination))) {
      throw new ConveyorError('invalid', `${what} exists, but has no volume at ${FOLDER}`, {
        hint: 'Choose another name with --builder.data (BUILDER_DATA)',
      })
    }
    if (!found) await create(docker, name)
    const container = docker.getContainer(name)
    const ours = !found || Boolean(found.Config.Labels[LABEL])
    const changed: string[] = []
    const kept: string[] = []
    for (const [path, content] of Object.entries(files)) {
      const current = await readFile(container, posix.join(FOLDER, path))
      if (current === content) continue
      ;(current === null || ours ? changed : kept).push(path)
    }
    if (changed.length > 0) {
      await container.putArchive(tarOf(entries(changed, files)), { path: FOLDER })
    }
    if (!found) return { state: 'created', text: `${what} with ${changed.join(', ')} in ${FOLDER}` }
    const left =
      kept.length > 0
        ? `; not created by bootstrap, so its ${kept.join(', ')} ${kept.length === 1 ? 'was' : 'were'} kept`
        : ''
    return changed.length > 0
      ? { state: 'updated', text: `${what}: new ${changed.join(', ')}${left}` }
      : { state: 'ok', text: `${what}${left}` }
  } catch (error) {
    throw engineError(`cannot create the container ${name}`, error)
  }
}

async function inspect(docker: Dockerode, name: string): Promise<Dockerode.ContainerInspectInfo | null> {
  try {
    return await docker.getContainer(name).inspect()
  } catch (error) {
    if (status(error) === 404) return null
    throw error
  }
}

async function create(docker: Dockerode, name: string): Promise<void> {
  const { name: repo, identifier: tag } = splitReference(EMPTY_IMAGE)
  // The same bytes give the same image, so there is only one.
  const progress = await docker.importImage(Buffer.from(tarOf([])) as unknown as string, { repo, tag })
  await buffer(progress)
  await docker.createContainer({
    name,
    Image: EMPTY_IMAGE,
    Cmd: ['never-run'],
    Volumes: { [FOLDER]: {} },
    Labels: { [LABEL]: 'data' },
  })
}

/** A file of the container; null if it does not exist. */
async function readFile(container: Dockerode.Container, path: string): Promise<string | null> {
  try {
    const archive = await container.getArchive({ path })
    return firstFile(await buffer(archive))?.toString() ?? null
  } catch (error) {
    if (status(error) === 404) return null
    throw error
  }
}

function entries(paths: string[], files: Record<string, string>): TarFile[] {
  const folders = new Set(paths.map((path) => `${posix.dirname(path)}/`))
  return [
    ...[...folders].map((path): TarFile => ({ path, mode: 0o700, owner: OWNER })),
    ...paths.map((path): TarFile => ({ path, content: files[path] ?? '', mode: 0o600, owner: OWNER })),
  ]
}

function status(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode
}
