import type Dockerode from 'dockerode'
import type { CredentialStore } from '../../registry/registry.ts'

/** Mount paths in the container by the names of Swarm secrets. */
export type SwarmSecrets = Readonly<Record<string, string>>

/** The nodes of a Swarm have no `data` container; what it holds elsewhere are Swarm secrets here. */
export const SWARM_SECRETS: SwarmSecrets = {
  'conveyor.id_rsa': '/var/run/conveyor/.ssh/id_rsa',
  'conveyor.id_rsa.pub': '/var/run/conveyor/.ssh/id_rsa.pub',
  'conveyor.known_hosts': '/var/run/conveyor/.ssh/known_hosts',
  'conveyor.config.json': '/var/run/conveyor/.docker/config.json',
}

export interface SwarmRunnerOptions {
  /** A client of a Swarm manager. */
  docker: Dockerode
  /** The builder image. Each node pulls it itself, so it must be in a registry that all of them can reach. */
  image: string
  /** Credentials for pulling it; the Swarm passes them to the node. */
  credentials: CredentialStore
  /** Network of the containers: `host`, or an overlay network; null (default) leaves it to the engine. */
  network?: string | null
  /** Mounts, `SOURCE:TARGET[:ro]`, from the node a build runs on, such as its engine's socket. A source without `/` is a volume. */
  binds?: string[]
  /** Environment variables beyond those in environment.ts. No secrets: anyone with access to the Swarm's API can read them. */
  environment?: Record<string, string>
  /** Which nodes may build, `node.labels.builder==true`: https://docs.docker.com/reference/cli/docker/service/create/#constraint */
  constraints?: string[]
  /** Where Swarm secrets are mounted, by their names; those that do not exist in the Swarm are left out. */
  secrets?: SwarmSecrets
  /** How many nodes to try when nodes are lost or lack the image; 3 by default. */
  attempts?: number
  /** How long a build waits for a suitable node, in milliseconds; 5 minutes by default. */
  pendingMs?: number
}
