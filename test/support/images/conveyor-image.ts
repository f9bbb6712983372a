import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import { projectRoot } from '../processes.ts'
import { NODE_IMAGE } from './base-images.ts'
import { finished } from './builder-images.ts'
import { tar } from './tar.ts'

const run = promisify(execFile)

/** The arguments for building Conveyor's own Dockerfile here: images made from files of this machine. */
export interface ConveyorImageArguments extends Record<string, string> {
  NODE_IMAGE: string
  MODULES: string
  COMPILED: string
}

/** Programs of a Debian node image that the tests' small image lacks. */
const PROGRAMS = ['/usr/bin/git', '/usr/bin/ssh', '/usr/bin/env', '/usr/bin/tini']
const GIT_CORE = '/usr/lib/git-core'

/**
 * Makes the images that replace what the Dockerfile downloads: a base with Node, git and ssh, the npm packages from
 * node_modules, and dist. Existing ones are kept.
 */
export async function conveyorImageArguments(docker: Docker): Promise<ConveyorImageArguments> {
  const needed = await Promise.all([...PROGRAMS, `${GIT_CORE}/git-remote-http`].map(libraries))
  const base = [...new Set([...PROGRAMS, GIT_CORE, ...needed.flat()])].map((path) => path.slice(1)).sort()
  const lock = await readFile(join(projectRoot, 'node_modules/.package-lock.json'), 'utf8')
  return {
    NODE_IMAGE: await ensureLayer(docker, 'base', NODE_IMAGE, '/', base, ''),
    MODULES: await ensureLayer(docker, 'modules', 'scratch', projectRoot, productionPackages(lock), lock),
    // Recompiled for nearly every run, so not worth keeping.
    COMPILED: await ensureLayer(docker, 'code', 'scratch', projectRoot, ['dist', 'oclif.manifest.json']),
  }
}

/** An image with these files in `/app` (files of this machine's root: in `/`), on top of another image. */
export async function ensureLayer(
  docker: Docker,
  name: string,
  from: string,
  root: string,
  paths: string[],
  recipe?: string,
): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([from, paths, recipe]))
    .digest('hex')
    .slice(0, 16)
  const image = `conveyor-test/conveyor-${name}:${recipe === undefined ? 'latest' : key}`
  if (recipe !== undefined && (await has(docker, image))) return image

  const [repo = '', tag = ''] = image.split(':')
  // Other test files may make the same image at the same time.
  const layer = `${tag}-files-${process.pid}`
  // Libraries are symlinks that would lead nowhere. In node_modules symlinks are wanted, and names of files and hard
  // links get the prefix, but targets of symlinks do not.
  const how = root === '/' ? ['--dereference'] : ['--transform=s,^,app/,S']
  const files = spawn('tar', ['-C', root, '-c', ...how, '--', ...paths], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await finished(docker, await docker.importImage(files.stdout, { repo, tag: layer }))
  const made = docker.getImage(`${repo}:${layer}`)
  if (from === 'scratch') await made.tag({ repo, tag })
  else {
    const dockerfile = `FROM ${from}\nCOPY --from=${repo}:${layer} / /\n`
    const context = tar([{ path: 'Dockerfile', content: dockerfile }])
    await finished(docker, await docker.buildImage(context, { t: image }))
  }
  await made.remove()
  return image
}

async function has(docker: Docker, image: string): Promise<boolean> {
  const images = await docker.listImages({ filters: { reference: [image] } })
  return images.length > 0
}

/** Folders of all installed packages except development ones, without packages nested in others. */
function productionPackages(lock: string): string[] {
  const { packages } = JSON.parse(lock) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>
  }
  const wanted = Object.entries(packages)
    .filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional)
    .map(([path]) => path)
  return wanted.filter((path) => !wanted.some((other) => path.startsWith(`${other}/`))).sort()
}

/** The shared libraries of a program, at the paths where it looks for them. */
export async function libraries(program: string): Promise<string[]> {
  const { stdout } = await run('ldd', [program])
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '')
}
