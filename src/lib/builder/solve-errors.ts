/** The step in which images are exported and pushed, as BuildKit names it. */
const EXPORT = /^exporting to image$/
/** What a registry says, or the way there. */
const REGISTRY =
  /failed to push|failed to authorize|unexpected status|status from (?:PUT|POST|HEAD|GET|PATCH) request|failed to do request|connection refused|no such host|authorization failed|denied|insufficient_scope/i
/** A registry that was made before zstd or OCI. */
const PACKING =
  /manifest[ _]invalid|unsupported[^"]*media ?type|media ?type[^"]*(?:not supported|unsupported|invalid|unknown)|unknown (?:manifest|media)|invalid (?:manifest|media ?type)|415 Unsupported|manifests\/\S+: 400/i

/** Whether it was the push that failed, of a build and push in one. */
export function isPushFailure(error: unknown, failed: { name: string; error: string } | undefined): boolean {
  return failed !== undefined && EXPORT.test(failed.name) && REGISTRY.test(String((error as Error).message))
}

/** Whether a registry refused a push for how the layers are packed, or what its manifest is. */
export function isRefusedPacking(error: unknown): boolean {
  return PACKING.test(String((error as Error).message))
}
