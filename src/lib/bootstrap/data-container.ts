import { posix } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { engineError, type Step } from './step.ts'
import { firstFile, type TarFile, tarOf } from './tar.ts'

export interface DataContainerOptions {
  docker: Dockerode
  name: string
  /** By their paths in FOLDER. */
  files: Record<string, string>
}

/** Where builder images find their secrets, in a volume of the data container. */
const FOLDER = '/var/run/conveyor'
/** Marks what bootstrap made, and may bring up to date. */
const LABEL = 'conveyor.bootstrap'
/** An image without a file: the container never runs, and needs no other. */
const EMPTY_IMAGE = 'conveyor-data:empty'
/**
 * Who owns the files. The user of the server's image can read them, and so can root in a builder image; ssh
 * takes a key of root's only from root, but one of somebody else from anybody who can read it.
 */
const OWNER = 1000

/**
 * The container whose volumes builder images mount (`--volumes-from`). One that bootstrap made before is brought
 * up to date; one that somebody else made gets the files that it lacks, and keeps what it has.
 */
export async function dataContainer({ docker, name, files }: DataContainerOptions): Promise<Step> {
  const what = `container ${name}`
  try {
    const found = await inspect(docker, name)
    if (found && !found.Mounts.some(({ Destination }) => FOLDER.startsWith(Destination))) {
      throw new ConveyorError('invalid', `${what} is somebody else's: it has no volume at ${FOLDER}`, {
        hint: 'Choose another name with --builder.data (BUILDER_DATA)',
      })
    }
    if (!found) await create(docker, name)
    const container = docker.getContainer(name)
    const ours = !found || Boolean(found.Config.Labels[LABEL])
    const changed: string[] = []
    const kept: string[] = []
    for (const [path, content] of Object.entries(files)) {
      const there = await readFile(container, posix.join(FOLDER, path))
      if (there === content) continue
      ;(there === null || ours ? changed : kept).push(path)
    }
    if (changed.length > 0) {
      await container.putArchive(tarOf(entries(changed, files)), { path: FOLDER })
    }
    if (!found) return { state: 'made', text: `${what} with ${changed.join(', ')} in ${FOLDER}` }
    const left = kept.length > 0 ? `; not made by bootstrap, so it keeps its own ${kept.join(', ')}` : ''
    return changed.length > 0
      ? { state: 'changed', text: `${what}: new ${changed.join(', ')}${left}` }
      : { state: 'there', text: `${what}${left}` }
  } catch (error) {
    throw engineError(`the container ${name} could not be made`, error)
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
  const [repo, tag] = EMPTY_IMAGE.split(':')
  // The same bytes give the same image, so there is one of these.
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

/** A file of the container; null when there is none. */
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
