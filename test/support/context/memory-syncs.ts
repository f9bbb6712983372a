import type { SyncRecords } from '../../../src/lib/core/sync-records.ts'

/** Sync records in memory, for tests of builders without a store. */
export function memorySyncs(): SyncRecords {
  const rows = new Map<string, { token: string; files: Uint8Array | null }>()
  return {
    async begin(buildkit, repository, token) {
      const key = `${buildkit} ${repository}`
      const row = rows.get(key)
      rows.set(key, { token, files: row?.files ?? null })
      return row?.token === '' ? row.files : null
    },
    async end(buildkit, repository, token, files) {
      const key = `${buildkit} ${repository}`
      const isMine = rows.get(key)?.token === token
      rows.set(key, isMine && files ? { token: '', files } : { token: 'overlapped', files: null })
    },
  }
}
