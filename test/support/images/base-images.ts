import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { projectRoot } from '../processes.ts'
import { type TarEntry, tar } from './tar.ts'

const run = promisify(execFile)

/** A shell and the usual small tools, 2 MB. */
export const BUSYBOX_IMAGE = 'conveyor-test/busybox:1'
/** The same plus the Node that this project runs on, as `node`; 130 MB. */
export const NODE_IMAGE = 'conveyor-demo/node:24'

/**
 * Makes the base images of the tests and the demo in the engine, from files of this machine, without pulling anything.
 * Existing images made from the same files are kept.
 */
export async function ensureBaseImages(docker: Docker): Promise<void> {
  await ensureBusybox(docker)
  await ensureImage(docker, NODE_IMAGE, [...(await busyboxEntries()), ...(await nodeEntries())])
}

/** Only the small one. */
export async function ensureBusybox(docker: Docker): Promise<void> {
  await ensureImage(docker, BUSYBOX_IMAGE, await busyboxEntries())
}

/**
 * Puts the small one into a registry under its own name, for builders that only have images from a registry.
 * @param host `127.0.0.1:PORT`, which requires no login
 */
export async function publishBusybox(docker: Docker, host: string): Promise<void> {
  await ensureBusybox(docker)
  const name = `${host}/${BUSYBOX_IMAGE}`
  const [repository, tag = ''] = BUSYBOX_IMAGE.split(':')
  await docker.getImage(BUSYBOX_IMAGE).tag({ repo: `${host}/${repository}`, tag })
  try {
    await finish(docker, await docker.getImage(name).push({ authconfig: {} }), `${name} was not pushed`)
  } finally {
    await docker.getImage(name).remove()
  }
}

async function ensureImage(docker: Docker, name: string, entries: TarEntry[]): Promise<void> {
  const recipe = await recipeOf(entries)
  if ((await commentOf(docker, name)) === recipe) return

  const [repo, tag] = name.split(':')
  // The API takes one instruction per line here.
  const changes = [
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'CMD ["/bin/sh"]',
  ].join('\n')
  const progress = await docker.importImage(tar(entries), { repo, tag, changes, message: recipe })
  await finish(docker, progress, `${name} was not imported`)
}

/** Reads the engine's messages to the end; rejects if one of them is an error. */
function finish(docker: Docker, messages: NodeJS.ReadableStream, problem: string): Promise<void> {
  return new Promise((resolve, reject) => {
    docker.modem.followProgress(messages, (error: Error | null, lines: { error?: string }[]) => {
      const failure = error?.message ?? lines.find((line) => line.error)?.error
      if (failure) reject(new Error(`${problem}: ${failure}`))
      else resolve()
    })
  })
}

/** A hash of names, modes and sizes: enough to notice a different Node, busybox or libc without reading them. */
async function recipeOf(entries: TarEntry[]): Promise<string> {
  const hash = createHash('sha256')
  for (const entry of entries) {
    const size = 'file' in entry ? (await stat(entry.file)).size : null
    hash.update(JSON.stringify([entry, size]))
  }
  return hash.digest('hex')
}

/** The comment of an image. Unlike a label, it is not inherited by images built on top. */
async function commentOf(docker: Docker, name: string): Promise<string | undefined> {
  try {
    return (await docker.getImage(name).inspect()).Comment
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return undefined
    throw error
  }
}

export async function busyboxEntries(): Promise<TarEntry[]> {
  const busybox = findProgram('busybox')
  const { stdout } = await run(busybox, ['--list-full'])
  const applets = stdout.split('\n').filter((path) => path !== '' && path !== 'bin/busybox')
  return [
    ...['bin', 'sbin', 'usr', 'usr/bin', 'usr/sbin', 'usr/local', 'usr/local/bin', 'etc', 'root', 'home'].map(
      (path): TarEntry => ({ path, directory: true }),
    ),
    { path: 'tmp', directory: true, mode: 0o1777 },
    { path: 'home/node', directory: true, uid: 1000 },
    {
      path: 'etc/passwd',
      content: 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:node:/home/node:/bin/sh\n',
    },
    { path: 'etc/group', content: 'root:x:0:\nnode:x:1000:\n' },
    { path: 'bin/busybox', file: busybox, mode: 0o755 },
    ...applets.map((path): TarEntry => ({ path, link: '/bin/busybox' })),
    ...(await libraries(busybox)),
  ]
}

async function nodeEntries(): Promise<TarEntry[]> {
  const node = join(projectRoot, 'node_modules/node/bin/node')
  return [{ path: 'usr/local/bin/node', file: node, mode: 0o755 }, ...(await libraries(node))]
}

/** The shared libraries and the loader that a program needs, at the paths where it looks for them. */
export async function libraries(program: string): Promise<TarEntry[]> {
  // For a static program, ldd exits with status 1 and "not a dynamic executable".
  const { stdout } = await run('ldd', [program]).catch((error: { stdout: string; stderr: string }) => {
    if (/not a dynamic/.test(error.stdout + error.stderr)) return { stdout: '' }
    throw error
  })
  const paths = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '')
  return paths.sort().map((path): TarEntry => ({ path: path.slice(1), file: path, mode: 0o755 }))
}

/** The first executable file with this name in PATH. */
function findProgram(name: string): string {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // not in this folder
    }
  }
  throw new Error(`${name} is not in PATH; run bin/setup.sh, which says what to install`)
}
