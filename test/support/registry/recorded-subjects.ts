import { join } from 'node:path'
import type Dockerode from 'dockerode'
import { parseBuildkitAddress } from '../../../src/lib/buildkit/address.ts'
import { buildkitdEndpoint } from '../../../src/lib/buildkit/buildkitd-endpoint.ts'
import type { Endpoint } from '../../../src/lib/buildkit/endpoint.ts'
import { engineEndpoint } from '../../../src/lib/buildkit/engine-endpoint.ts'
import { startBuildkitd } from '../engines/buildkitd.ts'
import { docker, startPrivateEngine } from '../engines/engine.ts'
import { tempDir } from '../temp.ts'
import { startTrixieEngine } from '../trixie.ts'

/** An engine or a standalone BuildKit whose texts are recorded. */
export interface RecordedSubject extends AsyncDisposable {
  endpoint: Endpoint
  engine?: Dockerode
  /** The engine, if its image store is the classic one: then it pushes itself. */
  classic?: Dockerode
}

/** By the names of their recordings. Each call starts something new. */
export const SUBJECTS: Record<string, () => Promise<RecordedSubject>> = {
  'docker-20.10': async () => {
    await using resources = new AsyncDisposableStack()
    const folder = resources.use(await tempDir('conveyor-recorded-'))
    const data = join(folder.path, 'engine')
    const engine = docker(resources.use(await startPrivateEngine(data, { removeData: true })))
    const owned = resources.move()
    return {
      endpoint: engineEndpoint(engine),
      engine,
      classic: engine,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  },
  'docker-26.1-classic': async () => {
    const own = await startTrixieEngine({ store: 'classic' })
    const engine = docker(own)
    const dispose = async () => own[Symbol.asyncDispose]()
    return { endpoint: engineEndpoint(engine), engine, classic: engine, [Symbol.asyncDispose]: dispose }
  },
  'docker-26.1-containerd': async () => {
    const own = await startTrixieEngine({ store: 'containerd' })
    const engine = docker(own)
    const dispose = async () => own[Symbol.asyncDispose]()
    return { endpoint: engineEndpoint(engine), engine, [Symbol.asyncDispose]: dispose }
  },
  'buildkitd-0.13': async () => {
    const own = await startBuildkitd()
    const address = parseBuildkitAddress(own.socket)
    if (!address) throw new Error(own.socket)
    const dispose = async () => own[Symbol.asyncDispose]()
    return { endpoint: buildkitdEndpoint(own.socket, address), [Symbol.asyncDispose]: dispose }
  },
}
