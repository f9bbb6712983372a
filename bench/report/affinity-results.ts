export interface AffinityOutcome {
  /** Share of the builds that ran on a warm worker. */
  warm: number
  /** Seconds from a push to the end of its build, at full scale. */
  mean: number
  p95: number
}

export interface AffinityCase {
  /** How pushes spread over the repositories: evenly, or most of them to a few. */
  arrivals: 'uniform' | 'zipf'
  /** Share of the workers' time that the builds take without affinity. */
  load: number
  /** For how many repositories a worker stays warm. */
  cache: number
  builds: number
  without: AffinityOutcome
  with: AffinityOutcome
}

/** The results of one run of the benchmark. */
export interface AffinityResults {
  /** Start time, in ISO 8601. */
  date: string
  cases: AffinityCase[]
}
