import { setTimeout as delay } from 'node:timers/promises'
import type { BuilderIo } from '../../builder/builder.ts'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import type { ContainerBuild } from '../runner.ts'
import type { Node, SwarmApi, Task } from './api.ts'
import {
  exited,
  exitStatus,
  lacksImage,
  noImageAnywhere,
  nowhere,
  rejected,
  removedMeanwhile,
  swarmError,
} from './errors.ts'
import { TaskLog } from './log.ts'
import { buildLabel, hasEnded, isLost, stopTask } from './service.ts'

/** How an attempt ended that is no error. */
export type Outcome =
  | { kind: 'succeeded' }
  /** The node went away, or gave the build up. */
  | { kind: 'lost'; why: string }
  | { kind: 'no image'; nodeId: string; node: string }

/** Between two looks at a task: short for builds that are over in no time, longer for all others. */
const POLL_MS = { first: 200, later: 1000, laterAfter: 5000 }
/** So long a manager may be without an answer, as when the Swarm elects another leader. */
const UNANSWERED_MS = 60_000
/** A build that waits longer for a node says why. */
const WAITING_MS = 5000

interface Attempt {
  serviceId: string
  build: ContainerBuild
  image: string
  pendingMs: number
  /** Names of nodes that lack the image; the service avoids them. */
  without: string[]
}

/** Follows the one task of a build's service to its end. */
export class TaskRun {
  readonly #api: SwarmApi
  readonly #attempt: Attempt
  readonly #started = performance.now()
  #task: Task | null = null
  /** As it was when it was given the task. */
  #node: Node | null = null
  #said = ''

  constructor(api: SwarmApi, attempt: Attempt) {
    this.#api = api
    this.#attempt = attempt
  }

  /**
   * Copies the log until the task has ended. Aborting the signal stops its container; its last words still
   * reach the log.
   * @throws ConveyorError what BuildContainer's run throws
   */
  async toEnd(io: BuilderIo): Promise<Outcome> {
    const { signal } = io
    // Also when the log cannot be written any more.
    const broken = new AbortController()
    const either = AbortSignal.any([signal, broken.signal])
    let log: TaskLog | null = null
    let following: Promise<void> | undefined
    const followed = new AbortController()
    const begin = (task: Task) => {
      log = new TaskLog(this.#api, task.ID, io.log)
      following = log.follow(followed.signal)
      following.catch((error) => broken.abort(error))
    }
    let outcome: Outcome | null = null
    let failure: unknown
    try {
      outcome = await this.#watch(io, either, begin)
    } catch (error) {
      failure = error
      // Also when another cause than the signal ends it: nothing goes on that nobody watches.
      if (this.#task) await this.#stop(this.#task)
    }
    followed.abort()
    await following
    if (log !== null && outcome?.kind !== 'lost') await this.#readRest(log, io)
    if (outcome !== null) return outcome
    signal.throwIfAborted()
    throw failure
  }

  /** @param begin called as soon as a node has the task, before it starts */
  async #watch(io: BuilderIo, signal: AbortSignal, begin: (task: Task) => void): Promise<Outcome> {
    let answered = performance.now()
    for (;;) {
      signal.throwIfAborted()
      try {
        const outcome = await this.#look(io, begin)
        if (outcome !== null) return outcome
        answered = performance.now()
      } catch (error) {
        if (error instanceof ConveyorError || performance.now() - answered > UNANSWERED_MS) {
          throw swarmError(error, 'the Swarm cannot be asked about the build')
        }
      }
      const early = performance.now() - this.#started < POLL_MS.laterAfter
      await delay(early ? POLL_MS.first : POLL_MS.later, undefined, { signal }).catch(() => {})
    }
  }

  /** One look at the task; null while it goes on. */
  async #look(io: BuilderIo, begin: (task: Task) => void): Promise<Outcome | null> {
    const { serviceId, build, image } = this.#attempt
    const tasks = (await this.#api.tasks(buildLabel(build.buildId))).filter(
      (one) => one.ServiceID === serviceId,
    )
    // A Swarm whose leader changes may give a task that has ended a successor, which does not count.
    const task = tasks.sort((a, b) => a.CreatedAt.localeCompare(b.CreatedAt))[0]
    const known = this.#task
    if (!task || (known && task.ID !== known.ID)) {
      const there = (await this.#api.service(serviceId)) !== null
      if (!there) throw removedMeanwhile()
      if (known) return { kind: 'lost', why: `${this.#nodeName} was removed from the Swarm` }
      return null
    }
    if (task.DesiredState === 'remove') throw removedMeanwhile()
    this.#task = task
    if (!task.NodeID) return this.#pending(task, io)

    const node = await this.#api.node(task.NodeID)
    if (this.#node === null) {
      this.#node = node
      begin(task)
    }
    const { State, Err } = task.Status
    const lost = (why: string): Outcome => ({ kind: 'lost', why: `${this.#nodeName} ${why}` })
    // What it has pushed is looked at afterwards, whatever made it end.
    if (State === 'complete') return { kind: 'succeeded' }
    if (State === 'rejected') {
      if (!lacksImage(task)) throw rejected(task, this.#nodeName, image)
      return { kind: 'no image', nodeId: task.NodeID, node: this.#node?.Description.Hostname ?? task.NodeID }
    }
    if (State === 'failed') {
      const status = exitStatus(task)
      if (this.#hasChanged(node)) return lost('was away while it built')
      if (status === null) throw rejected(task, this.#nodeName, image)
      throw exited(status, image)
    }
    if (isLost(node)) return lost(`is down (${node?.Status.Message || 'removed'})`)
    if (hasEnded(task)) return lost(`gave the build up${Err ? `: ${Err}` : ''}`)
    return null
  }

  /** No node has the task yet. */
  async #pending(task: Task, { log }: BuilderIo): Promise<null> {
    const { image, pendingMs, without } = this.#attempt
    const waited = performance.now() - this.#started
    const why = task.Status.Err ?? ''
    if (why !== '' && without.length > 0) throw noImageAnywhere(image, without)
    if (waited > pendingMs) throw nowhere(why || task.Status.Message || task.Status.State, pendingMs / 1000)
    if (waited > WAITING_MS && why !== '' && why !== this.#said) {
      this.#said = why
      await linesTo(log)(`waiting for a node: ${why}`)
    }
    return null
  }

  /**
   * Whether the node may have been away since it got the task: an engine that stops ends its containers, and
   * tells so when it is back. Changes for other reasons cost a second attempt at a build that has failed.
   */
  #hasChanged(node: Node | null): boolean {
    return isLost(node) || node?.Version.Index !== this.#node?.Version.Index
  }

  get #nodeName(): string {
    const name = this.#node?.Description.Hostname
    return name ? `node ${name}` : 'the node'
  }

  async #stop(task: Task): Promise<void> {
    // Removing the service ends it as well, if less politely.
    this.#task = await stopTask(this.#api, this.#attempt.serviceId, task).catch(() => task)
  }

  async #readRest(log: TaskLog, io: BuilderIo): Promise<void> {
    // Without a container there is no log, and its node would wait for one.
    if (!this.#task?.Status.ContainerStatus?.ContainerID) return
    const node = this.#task?.NodeID ? await this.#api.node(this.#task.NodeID).catch(() => null) : null
    const missing = isLost(node) ? `${this.#nodeName} is gone` : await log.rest()
    if (missing !== null) await linesTo(io.log)(`warning: the end of the log could not be read: ${missing}`)
  }
}
