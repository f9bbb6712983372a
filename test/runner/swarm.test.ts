import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { CredentialStore } from '../../src/lib/registry/registry.ts'
import type { SwarmRunnerOptions } from '../../src/lib/runner/swarm/options.ts'
import { checkSwarm, swarmRunner } from '../../src/lib/runner/swarm/runner.ts'
import { type SwarmNode, startSwarm, type TestSwarm } from '../support/engines/swarm.ts'
import { engine } from '../support/global-setup.ts'
import { finished, makeBuilderImage } from '../support/images/builder-images.ts'
import { memoryLog } from '../support/memory-log.ts'
import { forward } from '../support/network/forward.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { PATIENCE_MS } from '../support/timing/patience.ts'
import { failure, type RunnerSubject, runnerContract, scripted } from './runner.contract.ts'

const NOBODY: CredentialStore = { forHost: async () => null }
/** An image that runs the name of the branch as a script, as in the contract. */
const PROGRAM = 'printf "%b" "$BRANCH" > /program; exec sh /program\n'
const IMAGE = 'conveyor-test/swarm:1'
/** Runs until it is asked to end. */
const WAITS = "trap 'echo asked to end; exit 143' TERM; while :; do sleep 0.2; done"
const SECRET = `the key ${randomUUID()}`

let swarm: TestSwarm
beforeAll(async () => {
  swarm = await startSwarm()
  await swarm.makeImage(IMAGE, { script: PROGRAM })
  const Data = Buffer.from(SECRET).toString('base64')
  await swarm.manager.docker.createSecret({ Name: 'conveyor.id_rsa', Data })
})
afterAll(() => swarm[Symbol.asyncDispose]())

const builder = (rest: Partial<SwarmRunnerOptions> = {}) =>
  swarmRunner({
    docker: swarm.manager.docker,
    ...{ image: IMAGE, credentials: NOBODY, network: 'host' },
    ...rest,
  })
const io = (signal = new AbortController().signal) => ({ log: memoryLog(), signal })
const on = (node: SwarmNode) => ({ constraints: [`node.id==${node.id}`] })

/** A build's containers according to a node's own engine; running ones, or all. */
async function containers(node: SwarmNode, buildId: string, all = true): Promise<string[]> {
  const found = await node.docker.listContainers({ all, filters: { label: [`conveyor.build=${buildId}`] } })
  return found.map(({ Names }) => `${node.name}${Names.join(' ')}`)
}

/** Everything of a build in a Swarm. A node removes a container only after the Swarm has forgotten it. */
async function remains(buildId: string): Promise<string[]> {
  let left: string[] = []
  const until = performance.now() + PATIENCE_MS
  while (performance.now() < until) {
    const filters = { label: [`conveyor.build=${buildId}`] }
    left = [
      ...(await swarm.manager.docker.listServices({ filters })).map(({ ID }) => `service ${ID}`),
      ...(await swarm.manager.docker.listTasks({ filters })).map(({ ID }) => `task ${ID}`),
      ...(await Promise.all(swarm.nodes.map((node) => containers(node, buildId)))).flat(),
    ]
    if (left.length === 0) break
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return left
}

runnerContract('swarmRunner', async (): Promise<RunnerSubject> => {
  return {
    secret: SECRET,
    makeImage: (name, image) => swarm.makeImage(name, image),
    builder: (image) => builder({ image }),
    remains,
    async volumes() {
      const lists = await Promise.all(swarm.nodes.map(({ docker }) => docker.listVolumes()))
      return lists.flatMap(({ Volumes }) => Volumes.map(({ Name }) => Name))
    },
    async [Symbol.asyncDispose]() {},
  }
})

describe('swarmRunner', () => {
  test('the log can be read while the build runs', async () => {
    const abort = new AbortController()
    const run = io(abort.signal)
    const running = failure(builder().run(scripted(`echo live; ${WAITS}`), run))
    await expect.poll(() => run.log.text).toBe('live\n')
    abort.abort(new ConveyorError('cancelled', 'seen enough'))
    expect((await running).kind).toBe('cancelled')
  })

  test('the Swarm distributes builds over its nodes', async () => {
    const builds = [scripted(`hostname; ${WAITS}`), scripted(`hostname; ${WAITS}`)]
    const abort = new AbortController()
    const runs = builds.map(() => io(abort.signal))
    const running = builds.map((build, n) => failure(builder().run(build, runs[n] ?? io())))
    await expect
      .poll(() => runs.map(({ log }) => log.text.trim()).sort())
      .toEqual(swarm.nodes.map(({ name }) => name).sort())
    abort.abort(new ConveyorError('cancelled', 'seen enough'))
    await Promise.all(running)
  })

  test('passes additional variables and mounts from the options', async () => {
    const run = io()
    const script = 'echo $REGISTRY; ls -l /run/engine.sock; touch /read-only/x 2>/dev/null || echo read only'
    await builder({
      ...on(swarm.worker),
      environment: { REGISTRY: 'registry.example' },
      binds: [`${swarm.worker.engine.dockerHost.slice(7)}:/run/engine.sock`, '/tmp:/read-only:ro'],
    }).run(scripted(script), run)
    expect(run.log.text).toMatch(/^registry\.example\ns\S+ .* \/run\/engine\.sock\nread only\n$/)
  })

  test('secrets can have custom names, and those that the Swarm does not have are left out', async () => {
    const run = io()
    const secrets = { 'conveyor.id_rsa': '/somewhere/key', 'no-such-secret': '/somewhere/else' }
    await builder({ secrets }).run(scripted('ls /somewhere; ls -A /var/run/conveyor 2>&1; true'), run)
    expect(run.log.text).toMatch(/^key\nls: .*No such file/)
  })

  test('an image in a registry is pulled by the node, with the login for it', async () => {
    const login = { username: 'robot', password: 'secret-of-the-robot' }
    await using registry = await startRegistry({ htpasswd: login })
    await using front = await forward(swarm.address, registry.host)
    const [repo, tag] = [`${front.host}/team/builder`, 'v1']
    const image = `${repo}:${tag}`
    const { docker } = swarm.manager
    await makeBuilderImage(docker, image, { script: 'echo pulled and run' })
    const authconfig = { ...login, serveraddress: front.host }
    await finished(docker, await docker.getImage(image).push({ authconfig }))
    await docker.getImage(image).remove()

    const refused = await failure(builder({ image }).run(scripted(''), io()))
    expect(refused).toMatchObject({ kind: 'invalid', retryable: false })
    expect(refused.advice).toMatch(/team\/builder:v1 is not on the nodes .*docker login/)

    const run = io()
    await builder({ image, credentials: { forHost: async () => login }, ...on(swarm.worker) }).run(
      scripted(''),
      run,
    )
    expect(run.log.text).toBe('pulled and run\n')
  })

  test('an image that only one node has runs there', async () => {
    const image = `conveyor-test/swarm-one:${randomUUID()}`
    await makeBuilderImage(swarm.worker.docker, image, { script: 'hostname' })
    // Twice, because every other time the Swarm would try the worker first anyway.
    for (let n = 0; n < 2; n++) {
      const run = io()
      await builder({ image }).run(scripted(''), run)
      expect(run.log.text.trimEnd().split('\n').at(-1)).toBe(swarm.worker.name)
    }
  })

  test('an image that no node can start is an error of the settings', async () => {
    const image = `conveyor-test/swarm-broken:${randomUUID()}`
    await swarm.makeImage(image, { script: '', dockerfile: 'RUN rm /bin/sh' })
    const error = await failure(builder({ image }).run(scripted(''), io()))
    expect(error).toMatchObject({ kind: 'invalid', retryable: false })
    expect(error.message).toContain('/bin/sh')

    const build = scripted('')
    const noSource = await failure(builder({ binds: [`/nonexistent-${process.pid}:/x`] }).run(build, io()))
    expect(noSource).toMatchObject({ kind: 'invalid', retryable: false })
    expect(noSource.advice).toMatch(/\/nonexistent.*on every node/)

    const noNetwork = await failure(builder({ network: 'conveyor-test-nowhere' }).run(build, io()))
    expect(noNetwork).toMatchObject({ kind: 'invalid', retryable: false })
    expect(noNetwork.message).toContain('conveyor-test-nowhere')
    expect(await remains(build.buildId)).toEqual([])
  })

  test('a build that no node accepts fails with the reason, instead of waiting forever', async () => {
    const run = io()
    const build = scripted('')
    const constraints = ['node.labels.no-such==label']
    const error = await failure(builder({ constraints, pendingMs: 15_000 }).run(build, run))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.advice).toMatch(/no Swarm node .* within 15 s: no suitable node .*docker node ls/)
    expect(run.log.text).toMatch(/^waiting for a node: no suitable node .*\n$/)
    expect(await remains(build.buildId)).toEqual([])
  })

  test('an engine that is not a Swarm manager is detected at once', async () => {
    for (const docker of [engine().docker, swarm.worker.docker]) {
      const error = await failure(builder({ docker }).run(scripted(''), io()))
      expect(error).toMatchObject({ kind: 'invalid', retryable: false })
      expect(error.advice).toMatch(/not a Swarm manager.*docker swarm init/)
      expect(await failure(checkSwarm(docker))).toMatchObject({ kind: 'invalid' })
    }
    await checkSwarm(swarm.manager.docker)
  })

  test('an unreachable engine is a retryable error', async () => {
    const docker = new Docker({ socketPath: '/nonexistent/docker.sock' })
    const error = await failure(builder({ docker }).run(scripted(''), io()))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.advice).toMatch(/cannot reach the Docker engine.*set DOCKER_HOST/)
  })

  test('a log that cannot be written stops the build', async () => {
    const build = scripted(`echo one; ${WAITS}`)
    const full = new ConveyorError('unavailable', 'the disk is full')
    const log = { ...memoryLog(), write: () => Promise.reject(full) }
    const signal = new AbortController().signal
    expect(await failure(builder().run(build, { log, signal }))).toBe(full)
    expect(await remains(build.buildId)).toEqual([])
  })
})

/** Prints where it runs, and on the worker runs forever. */
const LINGERS = `hostname; case $(hostname) in two-*) ${WAITS};; esac`

describe('swarmRunner, when a node is lost', () => {
  // Faster than the default, but not so fast that a slow machine seems lost.
  beforeAll(() => swarm.setHeartbeat(3))

  const MAY_BUILD = { constraints: ['node.labels.builder==true'] }

  /** A build that has begun on the worker, and may restart on the manager. */
  async function begunOnWorker() {
    await expect.poll(ready).toBe('ready')
    await swarm.change(swarm.manager, { Labels: {} })
    await swarm.change(swarm.worker, { Labels: { builder: 'true' } })
    const build = scripted(LINGERS)
    const run = io()
    const running = builder(MAY_BUILD).run(build, run)
    running.catch(() => {}) // awaited by the test
    await expect.poll(() => run.log.text).toBe(`${swarm.worker.name}\n`)
    await swarm.change(swarm.manager, { Labels: { builder: 'true' } })
    return { build, run, running }
  }

  const ready = async () => (await swarm.manager.docker.getNode(swarm.worker.id).inspect()).Status.State

  test('a disconnected node: the build succeeds on the other one, and is stopped on the first when it is back', async () => {
    const { build, run, running } = await begunOnWorker()
    await swarm.worker.cutOff()
    try {
      await running
      const lines = run.log.text.split('\n')
      expect(lines.at(0)).toBe(swarm.worker.name)
      expect(run.log.text).toMatch(
        new RegExp(`node ${swarm.worker.name} is down \\(.*\\); restarting the build .*\\(attempt 2 of 3\\)`),
      )
      expect(lines.at(-2)).toBe(swarm.manager.name)
      // It cannot be told to stop.
      expect(await containers(swarm.worker, build.buildId, false)).toHaveLength(1)
      await expect.poll(() => containers(swarm.manager, build.buildId)).toEqual([])
    } finally {
      await swarm.worker.reconnect()
    }
    await expect.poll(ready).toBe('ready')
    await expect.poll(() => containers(swarm.worker, build.buildId)).toEqual([])
    expect(await remains(build.buildId)).toEqual([])
  })

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'a node whose engine ends with %s: the build succeeds on the other',
    async (signal) => {
      const { build, run, running } = await begunOnWorker()
      await swarm.worker.engine.stop(signal)
      try {
        await running
        expect(run.log.text).toContain('(attempt 2 of 3)')
        expect(run.log.text.split('\n').at(-2)).toBe(swarm.manager.name)
      } finally {
        await swarm.worker.engine.start()
      }
      await expect.poll(ready).toBe('ready')
      expect(await remains(build.buildId)).toEqual([])
    },
  )

  test('a node whose engine restarts quickly: the build does not fail, but starts over', async () => {
    await using folder = await tempDir()
    const build = scripted(`[ ! -e /flag/again ] || exit 0; touch /flag/again; echo begun; ${WAITS}`)
    const run = io()
    const running = builder({ ...on(swarm.worker), binds: [`${folder.path}:/flag`] }).run(build, run)
    running.catch(() => {}) // awaited below
    await expect.poll(() => run.log.text).toBe('begun\n')
    await swarm.worker.engine.stop('SIGTERM')
    await swarm.worker.engine.start()
    await running
    expect(run.log.text).toContain('(attempt 2 of 3)')
    expect(await remains(build.buildId)).toEqual([])
  })

  test('a build that loses every node is a retryable error', async () => {
    const build = scripted(LINGERS)
    const run = io()
    const running = failure(builder({ attempts: 1, ...on(swarm.worker) }).run(build, run))
    await expect.poll(() => run.log.text).toContain(swarm.worker.name)
    await swarm.worker.cutOff()
    try {
      expect(await running).toMatchObject({ kind: 'unavailable', retryable: true })
      expect((await running).message).toContain(`node ${swarm.worker.name} is down`)
    } finally {
      await swarm.worker.reconnect()
    }
    await expect.poll(ready).toBe('ready')
    expect(await remains(build.buildId)).toEqual([])
  })

  test('the builds of a drained node move to other nodes', async () => {
    const { run, running } = await begunOnWorker()
    await swarm.change(swarm.worker, { Availability: 'drain' })
    try {
      await running
      expect(run.log.text).toContain(`node ${swarm.worker.name} stopped the build`)
      expect(run.log.text.split('\n').at(-2)).toBe(swarm.manager.name)
    } finally {
      await swarm.change(swarm.worker, { Availability: 'active' })
    }
  })

  test('a manager that is temporarily unreachable: the build continues, and its log has no gap', async () => {
    // This test comes last: from here on, nodes are not given up for a while, so that a slow one has time to find the
    // manager again.
    await swarm.setHeartbeat(30)
    await using folder = await tempDir()
    const counts = 'i=0; while [ ! -e /flag/end ]; do i=$((i+1)); echo $i; sleep 0.2; done; echo end'
    const run = io()
    const running = builder({ ...on(swarm.worker), binds: [`${folder.path}:/flag`] }).run(
      scripted(counts),
      run,
    )
    running.catch(() => {}) // awaited below
    await expect.poll(() => run.log.text).toContain('2\n')
    await swarm.manager.engine.stop()
    await swarm.manager.engine.start()
    const before = run.log.text.length
    await expect.poll(() => run.log.text.length).toBeGreaterThan(before)
    await writeFile(`${folder.path}/end`, '')
    await running
    const lines = run.log.text.trimEnd().split('\n')
    expect(lines.pop()).toBe('end')
    expect(lines).toEqual(lines.map((_, n) => String(n + 1)))
  })
})
