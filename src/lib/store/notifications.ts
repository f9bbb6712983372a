/** `conveyor`: our own body, one for each build. `dockerhub`: as Docker Hub sends it, one for each tag of an image. */
export type NotificationFormat = 'conveyor' | 'dockerhub'

/** A pending one is sent when it is due, and again after failures, until it is `delivered` or no try is left. */
export type NotificationState = 'pending' | 'delivered' | 'failed'

/** A webhook that tells a configured URL about a build that has ended. Times are ISO 8601 in UTC. */
export interface Notification {
  /** UUID; receivers see it, and it stays the same over tries and redeliveries. */
  id: string
  buildId: string
  /** Stands for the URL, which may contain secrets and so is not stored. */
  target: string
  /** Scheme, host and port of the URL. */
  origin: string
  format: NotificationFormat
  /** The Docker tag, `main`, that it is about; null if it is about the whole build. */
  tag: string | null
  state: NotificationState
  /** How many times it was sent. */
  attempts: number
  /** How many tries may follow, if it is pending. */
  triesLeft: number
  /** When it is sent next; null unless it is pending. */
  dueAt: string | null
  /** HTTP status of the last answer; null if there was none. */
  status: number | null
  /** The beginning of the last answer's body, at most 1 kB; null if there was none. */
  answer: string | null
  /** Why the last try failed; null if it did not. */
  error: string | null
  /** How long the last try took, in milliseconds. */
  tookMs: number | null
  createdAt: string
  /** When the last try began; null before the first. */
  attemptedAt: string | null
}

/** A notification that is to be sent. */
export type NewNotification = Pick<Notification, 'target' | 'origin' | 'format' | 'tag'>

/** What became of a try. With `retryInS`, it is sent again after so many seconds, if a try is left. */
export interface TryResult extends Pick<Notification, 'status' | 'answer' | 'error' | 'tookMs'> {
  retryInS?: number
}

/** An outbox: see BuildStore.notifications. Several servers may send from it at the same time. */
export interface Notifications {
  /** Ids of builds that have ended since their notifications were last made, oldest first. */
  ended(limit: number): Promise<string[]>

  /**
   * Makes the notifications of a build that has ended, with `tries` tries each; none is a decision, too. Does nothing if
   * another server did it.
   */
  make(buildId: string, notifications: readonly NewNotification[], tries: number): Promise<void>

  /** The targets of notifications that are due. */
  dueTargets(): Promise<string[]>

  /**
   * Begins a try of the oldest notification that is due for a target; null if there is none. If nobody settles it within
   * a minute, the process that tried it has died, and it is due again.
   */
  claim(target: string): Promise<Notification | null>

  /** Ends the try with which `claim` returned this notification, unless another one has begun. */
  settle(notification: Pick<Notification, 'id' | 'attempts'>, result: TryResult): Promise<void>

  /** Those of a build, in the order they were made. Accepts any string. */
  ofBuild(buildId: string): Promise<Notification[]>

  /** Null if there is none. Accepts any string. */
  get(id: string): Promise<Notification | null>

  /** Sends a notification again at once, with `tries` tries. Null if it is pending, or if there is none. */
  redeliver(id: string, tries: number): Promise<Notification | null>
}
