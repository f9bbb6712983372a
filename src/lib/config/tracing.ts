/** Where traces go and which are kept, from OpenTelemetry's own variables; its exporter reads the rest of them itself. */
export interface TracingConfig {
  /** OTEL_TRACES_SAMPLER. */
  sampler: string
  /** OTEL_TRACES_SAMPLER_ARG, from 0 to 1. */
  ratio: number
}

/** Null without a collector, or if traces are disabled. */
export function tracingOf(env: NodeJS.ProcessEnv): TracingConfig | null {
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT
  const disabled = env.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || env.OTEL_TRACES_EXPORTER === 'none'
  if (!endpoint || disabled) return null
  const ratio = Number(env.OTEL_TRACES_SAMPLER_ARG || 1)
  return {
    sampler: env.OTEL_TRACES_SAMPLER || 'parentbased_always_on',
    ratio: ratio >= 0 && ratio <= 1 ? ratio : 1,
  }
}
