import { createReadStream } from 'node:fs'
import { access, cp, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { docker, startPrivateEngine } from '../../test/support/engines/engine.ts'
import { startRegistry } from '../../test/support/registry/registry.ts'
import { run, say } from './run.ts'

/** Name of the base image in the registry, without its host. */
export const BASE_IMAGE = 'library/debian:bookworm'

const SUITE = 'bookworm'

/**
 * Puts Debian's minimal system as an image into the data folder of a registry. It is made once, with
 * debootstrap, and kept in `cache`.
 */
export async function provideBaseImage(cache: string, registryData: string): Promise<void> {
  const kept = join(cache, `base-${SUITE}`)
  const there = await access(kept).then(
    () => true,
    () => false,
  )
  if (!there) {
    say('making the base image with debootstrap, once (about a minute)')
    const folder = await mkdtemp(join(cache, 'base-'))
    try {
      await makeBaseImage(folder)
      await rename(join(folder, 'registry'), kept)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  await cp(kept, registryData, { recursive: true })
}

/** Leaves a registry's data in `folder/registry`. */
async function makeBaseImage(folder: string): Promise<void> {
  const root = join(folder, 'root')
  const archive = join(folder, 'root.tar')
  await run('debootstrap', ['--variant=minbase', SUITE, root])
  await rm(join(root, 'var/cache/apt'), { recursive: true })
  await rm(join(root, 'var/lib/apt/lists'), { recursive: true })
  await run('tar', ['-C', root, '--one-file-system', '-cf', archive, '.'])

  await using registry = await startRegistry({ dir: join(folder, 'registry') })
  await using engine = await startPrivateEngine(join(folder, 'engine'), { removeData: true })
  const client = docker(engine)
  const finished = (stream: NodeJS.ReadableStream) =>
    new Promise<void>((resolve, reject) => {
      client.modem.followProgress(stream, (error: Error | null) => (error ? reject(error) : resolve()))
    })
  const [repo, tag] = BASE_IMAGE.split(':')
  const changes = 'CMD ["/bin/bash"]'
  await finished(
    await client.importImage(createReadStream(archive), { repo: `${registry.host}/${repo}`, tag, changes }),
  )
  const image = client.getImage(`${registry.host}/${BASE_IMAGE}`)
  await finished(await image.push({ authconfig: {} }))
}
