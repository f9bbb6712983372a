/**
 * What each BuildKit last received of each repository, recorded where every worker that uses that BuildKit finds it.
 * The records are opaque (see FileTimes.encode).
 */
export interface SyncRecords {
  /**
   * The record of the last sync; null if there was none, if it failed, or if another one overlapped it. From here
   * until `end`, others get null.
   * @param buildkit identifies the BuildKit: Endpoint.id
   * @param token identifies this sync
   */
  begin(buildkit: string, repository: string, token: string): Promise<Uint8Array | null>
  /**
   * Records what BuildKit has now. Keeps nothing if another sync began in the meantime, because it is unknown which of
   * the two wrote what last.
   * @param files null: what it has, or what it built from it, is not known for certain
   */
  end(buildkit: string, repository: string, token: string, files: Uint8Array | null): Promise<void>
}
