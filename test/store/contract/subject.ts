import { afterEach, beforeEach, expect } from 'vitest'
import type { Build, BuildRequest } from '../../../src/lib/core/build.ts'
import type { BuildResult, BuildStore } from '../../../src/lib/store/build-store.ts'

/** An empty store, and where it keeps its data. */
export interface OpenedStore {
  store: BuildStore
  /** Closes the store and opens it again on the same data. */
  reopen(): Promise<BuildStore>
  /** The body of an ES module that opens the same data as `store`, to run in another process. */
  openInChild: string
  /** Closes the store and removes the data. */
  dispose(): Promise<void>
}

export interface OpenOptions {
  now: () => Date
}

export const SHA = 'a'.repeat(40)
export const OTHER_SHA = 'b'.repeat(40)
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** A request through the API for a commit of acme/app, without a ref unless `change` names one. */
export function request(change: Partial<BuildRequest> = {}): BuildRequest {
  return {
    repository: 'acme/app',
    sha: SHA,
    ref: null,
    defaultBranch: 'main',
    cache: true,
    source: { kind: 'api' },
    ...change,
  }
}

let deliveries = 0

/** A push to `branch`, as a webhook reports it, with its own delivery id. */
export function push(branch: string, change: Partial<BuildRequest> = {}): BuildRequest {
  deliveries += 1
  return request({
    ref: { kind: 'branch', name: branch },
    source: { kind: 'webhook', delivery: `delivery-${deliveries}` },
    ...change,
  })
}

/** The result of an attempt that failed or was cancelled, for the reason `error`. */
export function failed(error = 'no', state: 'failed' | 'cancelled' = 'failed'): BuildResult {
  return { state, error, errorKind: state === 'failed' ? 'build_failed' : 'cancelled' }
}

/** The result of an attempt that succeeded and moved `tags`. */
export function succeeded(tags: string[] = []): BuildResult {
  return { state: 'succeeded', image: `registry.test/acme/app@sha256:${'0'.repeat(64)}`, tags }
}

/** The store under test; a new one for every test. */
export class Subject {
  opened!: OpenedStore
  store!: BuildStore
  /** The store's current time, in milliseconds. */
  clock = 0

  constructor(open: (options: OpenOptions) => Promise<OpenedStore>) {
    beforeEach(async () => {
      this.clock = Date.parse('2030-01-02T03:04:05.678Z')
      this.opened = await open({ now: () => new Date(this.clock) })
      this.store = this.opened.store
    })
    afterEach(() => this.opened.dispose())
  }

  async reopen(): Promise<void> {
    this.store = await this.opened.reopen()
  }

  async accepted(asked: BuildRequest): Promise<Build> {
    return (await this.store.accept(asked)).build
  }

  async claimed(id: string): Promise<Build> {
    const build = await this.store.claim(id)
    if (!build) throw new Error(`build ${id} cannot be claimed`)
    return build
  }

  async read(id: string): Promise<Build> {
    const build = await this.store.get(id)
    if (!build) throw new Error(`there is no build ${id}`)
    return build
  }

  /** Claims a build and ends it. */
  async ended(id: string, result: BuildResult = succeeded()): Promise<Build> {
    const { attempt, refs } = await this.claimed(id)
    expect(await this.store.finish(id, attempt, refs.length, result)).toBe('finished')
    return this.read(id)
  }
}
