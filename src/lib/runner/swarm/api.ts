import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { dial, request } from '../../docker/request.ts'

/** The Swarm parts of the Docker API: https://docs.docker.com/reference/api/engine/ */

/** States of a task, in this order: https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/ */
type TaskState =
  | 'new'
  | 'allocated'
  | 'pending'
  | 'assigned'
  | 'accepted'
  | 'preparing'
  | 'ready'
  | 'starting'
  | 'running'
  | 'complete'
  | 'shutdown'
  | 'failed'
  | 'rejected'
  | 'remove'
  | 'orphaned'

export interface Task {
  ID: string
  ServiceID: string
  /** Missing until the Swarm has chosen one. */
  NodeID?: string
  CreatedAt: string
  DesiredState: TaskState
  Status: {
    State: TaskState
    Message?: string
    Err?: string
    ContainerStatus?: { ContainerID?: string; ExitCode?: number }
  }
}

export interface SwarmNode {
  ID: string
  /** Incremented with every change: down, ready again, drained... */
  Version: { Index: number }
  Spec: { Availability: 'active' | 'pause' | 'drain' }
  Description: { Hostname: string }
  Status: { State: 'unknown' | 'down' | 'ready' | 'disconnected'; Message?: string }
}

export interface Service {
  ID: string
  Version: { Index: number }
  Spec: Dockerode.ServiceSpec
}

/**
 * The API of a Swarm manager. Rejects with the engine's error, which has a `statusCode` if it responded: one that does not
 * has lost its peers.
 */
export class SwarmApi {
  readonly #docker: Dockerode
  constructor(docker: Dockerode) {
    this.#docker = docker
  }

  /** All tasks of services with this label, `name=value`, including removed services. */
  tasks(label: string): Promise<Task[]> {
    return this.#request('GET', '/tasks', { query: { filters: { label: [label] } } })
  }

  /** Null if it has been removed from the Swarm. */
  node(id: string): Promise<SwarmNode | null> {
    return this.#request<SwarmNode>('GET', `/nodes/${id}`).catch(nullIfAbsent)
  }

  services(label: string): Promise<Service[]> {
    return this.#request('GET', '/services', { query: { filters: { label: [label] } } })
  }

  service(id: string): Promise<Service | null> {
    return this.#request<Service>('GET', `/services/${id}`).catch(nullIfAbsent)
  }

  /** @returns the service's id */
  async create(spec: Dockerode.ServiceSpec, auth?: Dockerode.AuthConfig): Promise<string> {
    return (await this.#request<{ ID: string }>('POST', '/services/create', { body: spec, auth })).ID
  }

  async update(service: Service, spec: Dockerode.ServiceSpec): Promise<void> {
    const query = { version: service.Version.Index }
    await this.#request('POST', `/services/${service.ID}/update`, { query, body: spec })
  }

  /** Removes a service, if it exists. */
  async remove(id: string): Promise<void> {
    await this.#request('DELETE', `/services/${id}`).catch(nullIfAbsent)
  }

  secrets(): Promise<{ ID: string; Spec: { Name: string } }[]> {
    return this.#request('GET', '/secrets')
  }

  /** A task's output, in frames. With `follow`, the stream ends only by the signal, as a Swarm does not report the end. */
  logs(taskId: string, follow: boolean, abortSignal: AbortSignal): Promise<IncomingMessage> {
    const options = { _query: { stdout: true, stderr: true, follow } }
    return dial(this.#docker, {
      ...{ path: `/tasks/${taskId}/logs?`, method: 'GET', options, isStream: true, abortSignal },
    }) as Promise<IncomingMessage>
  }

  #request<T>(method: string, path: string, parts?: Parameters<typeof request>[3]): Promise<T> {
    return request<T>(this.#docker, method, path, parts)
  }
}

function nullIfAbsent(error: { statusCode?: number }): null {
  if (error.statusCode === 404) return null
  throw error
}
