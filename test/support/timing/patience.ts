/**
 * How long tests wait for something before they call it hung, in milliseconds. It is far above what Conveyor itself
 * waits for: leases end, and webhooks count as missed, after 30 s.
 */
export const PATIENCE_MS = 120_000
