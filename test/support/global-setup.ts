import type Docker from 'dockerode'
import { inject } from 'vitest'
import type { TestProject } from 'vitest/node'
import { docker, type Engine, startEngine } from './engines/engine.ts'
import { ensureBaseImages } from './images/base-images.ts'

declare module 'vitest' {
  interface ProvidedContext {
    engine: Pick<Engine, 'dockerHost' | 'network'>
  }
}

/** Runs once before all test files: an engine with the base images in it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const engine = await startEngine()
  try {
    await ensureBaseImages(docker(engine))
  } catch (error) {
    await engine[Symbol.asyncDispose]()
    throw error
  }
  project.provide('engine', { dockerHost: engine.dockerHost, network: engine.network })
  return async () => engine[Symbol.asyncDispose]()
}

/** The engine that all test files share; name images after your test file. */
export function engine(): { docker: Docker; dockerHost: string; network: string | null } {
  const shared = inject('engine')
  return { docker: docker(shared), ...shared }
}
