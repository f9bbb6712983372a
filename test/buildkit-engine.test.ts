import { solveBuilder } from '../src/lib/builder/solve-builder.ts'
import { engineEndpoint } from '../src/lib/buildkit/engine-endpoint.ts'
import { builderContract } from './builder.contract.ts'
import { docker } from './support/engine.ts'
import { startTrixieEngine } from './support/trixie.ts'

builderContract("the containerd store of an engine, through BuildKit's API", async () => {
  const engine = await startTrixieEngine({ store: 'containerd' })
  return {
    builder: (credentials) =>
      solveBuilder({ endpoint: engineEndpoint(docker(engine)), credentials, pushRetryDelays: [1, 1] }),
    network: engine.network,
    forget: async () => {},
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  }
})
