import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tempDir } from '../../test/support/temp.ts'
import type { Workload } from '../workload/workload.ts'
import { run } from './run.ts'
import { manifestOf, tagged } from './tags.ts'
import type { World } from './world.ts'

/**
 * Proves that a contender has published the right image: its tags are one, and the list of hashes that the
 * build step made inside of it is that of the commit's files, without those that .dockerignore keeps out.
 * @throws Error that says what is wrong
 */
export async function verify(world: World, image: string, workload: Workload): Promise<void> {
  const sha = workload.head
  if ((await tagged(world, image, [sha, 'main', 'latest'])) === null) {
    throw new Error(`${image}: the tags ${sha}, main and latest do not point at the same image`)
  }
  const manifest = await manifestOf(world, image, sha)
  const layer = manifest?.layers.at(-1)?.digest
  const blob = await fetch(`${world.registry.url}/v2/${image}/blobs/${layer}`)
  if (blob.status !== 200) throw new Error(`${image}: layer ${layer} was answered ${blob.status}`)

  await using folder = await tempDir('conveyor-verify-')
  const file = join(folder.path, 'layer')
  await writeFile(file, await blob.bytes())
  const built = await run('tar', [
    ...['--extract', '--to-stdout', '--file', file],
    ...['--wildcards', '*app/build/manifest.txt'],
  ])
  const expected = await expectedManifest(workload, sha)
  if (built !== expected) throw new Error(`${image}: the image holds other files than ${sha}`)
}

const known = new Map<string, Promise<string>>()

/** What build.sh writes for a commit. */
function expectedManifest(workload: Workload, sha: string): Promise<string> {
  const manifest = known.get(sha) ?? makeManifest(workload, sha)
  known.set(sha, manifest)
  return manifest
}

async function makeManifest(workload: Workload, sha: string): Promise<string> {
  const { git } = workload
  const names = (await git.git('ls-tree', '-r', '-z', '--name-only', sha)).split('\0')
  const wanted = names.filter((name) => name !== '' && name !== 'Dockerfile' && !name.startsWith('docs/'))
  await using folder = await tempDir('conveyor-verify-')
  const archive = join(folder.path, 'tree.tar')
  await git.git('archive', '--output', archive, sha)
  await run('tar', ['--extract', '--directory', folder.path, '--file', archive])
  const lines: string[] = []
  for (const name of wanted.sort()) {
    const hash = createHash('sha256').update(await readFile(join(folder.path, name)))
    lines.push(`${hash.digest('hex')}  ./${name}\n`)
  }
  return lines.join('')
}
