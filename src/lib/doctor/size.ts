/** `2.1 GB`, `340 MB`: the format of `--cache.max`. */
export function formatSize(bytes: number): string {
  if (bytes >= 1e9) return `${Math.round(bytes / 1e8) / 10} GB`
  return `${Math.round(bytes / 1e6)} MB`
}
