import type { Build } from '../core/build.ts'

/** A process that runs builds, as it has last reported itself. */
export interface WorkerInfo {
  /** Unique to the process. */
  id: string
  host: string
  pid: number
  version: string
  /** How many builds it runs at a time. */
  slots: number
  /** Ids of the builds that it runs. */
  builds: string[]
  /** The repositories that it has a mirror and layers of, in lower case. */
  warm: string[]
  startedAt: string
  seenAt: string
}

/** Who runs builds. */
export interface Workers {
  /** A process reports itself, about every 10 seconds. Those that have not for 60 seconds are forgotten. */
  seen(worker: Omit<WorkerInfo, 'seenAt'>): Promise<void>
  /** It ends. */
  gone(id: string): Promise<void>
  /** By host and process id. */
  list(): Promise<WorkerInfo[]>
}

/** A pending build. */
export interface WaitingBuild {
  build: Build
  /** Among all pending builds, in the order in which they start; the first is 1. */
  position: number
  /** When it may be tried again, or could be, if that has passed; null unless an attempt failed. */
  retryAt: string | null
}

/** Pending builds, in the order in which they start, and how many there are in all. */
export interface WaitingPage {
  pending: number
  building: number
  builds: WaitingBuild[]
  /** Opaque, for the next page; null after the last one. */
  next: string | null
}

/** How long a process holds a lease at the most without extending it, in seconds. */
export const LONGEST_LEASE_S = 60

/**
 * Work that only one process of all on this store does, by name. What is taken for longer than LONGEST_LEASE_S is a pause
 * for all: it outlives its process.
 */
export interface Leases {
  /** Takes a lease for so many seconds, or extends it. False while another holder has it. */
  take(name: string, holder: string, seconds: number): Promise<boolean>
  /** Ends a lease early; nothing if another holder has it. */
  drop(name: string, holder: string): Promise<void>
}
