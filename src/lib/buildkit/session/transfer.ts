/** What BuildKit requested of a context so far: everything that it did not have yet. */
export interface Transfer {
  files: number
  bytes: number
}
