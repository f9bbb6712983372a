import type { CacheOptionsEntry, SolveRequest } from '../../buildkit/gen/control.ts'
import { subjectAttr } from '../../buildkit/history.ts'
import { EMPTY_SOLVE } from '../../buildkit/solve.ts'
import { ConveyorError } from '../../core/errors.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { BuildInput } from '../builder.ts'
import { cacheMountArgs } from '../cache-mount-args.ts'

/** Compression of layers. zstd is ten times as fast as gzip, but unsupported by Docker before 23. */
export type Compression = 'zstd' | 'gzip' | 'uncompressed'

/** The format of an image in a registry. */
export interface LayerFormat {
  compression: Compression
  /** OCI media types, which zstd requires, or Docker's older ones. */
  oci: boolean
}

/** The format that nearly every registry and client supports. */
export const COMPATIBLE: LayerFormat = { compression: 'gzip', oci: false }

export interface RequestOptions {
  /** Id of the session that provides files, credentials and secrets. */
  session: string
  format: LayerFormat
  /** The registry has no TLS. */
  insecure: boolean
}

/** Builds an image that is pushed as it is exported, or stays in the engine's store. */
export function imageRequest(input: BuildInput, target: RequestOptions): Omit<SolveRequest, 'Ref'> {
  const { reference, push, epoch, reproducible } = input
  const build = buildRequest(input, target)
  return {
    ...build,
    FrontendAttrs: {
      ...build.FrontendAttrs,
      ...attestAttrs(input),
      ...subjectAttr(splitReference(reference).name),
    },
    Exporter: 'image',
    ExporterAttrs: {
      name: reference,
      ...formatAttrs(target),
      'source-date-epoch': String(epoch),
      ...(reproducible ? REWRITTEN : {}),
      // A pushed image is not stored here as well; its layers stay in the cache.
      ...(push ? { push: 'true', store: 'false', ...insecureAttr(target) } : {}),
    },
    // Only complete builds are in the history, which tells for which images no cache import is needed.
    Internal: !push || (input.cache && input.cacheFrom.length > 0),
  }
}

/** Limits file times in layers to the epoch: https://github.com/moby/buildkit/blob/v0.13.2/docs/build-repro.md */
const REWRITTEN = { 'rewrite-timestamp': 'true' }

/** Rejected by a BuildKit that supports the attribute, as its value is neither true nor false. */
export const REWRITE_PROBE = {
  ...EMPTY_SOLVE,
  Frontend: '',
  Exporter: 'image',
  ExporterAttrs: { 'rewrite-timestamp': '?' },
}

/** The same build without the push, to learn the digests. */
export function unpushed(request: Omit<SolveRequest, 'Ref'>): Omit<SolveRequest, 'Ref'> {
  const { push: _, ...rest } = request.ExporterAttrs
  return { ...request, ExporterAttrs: rest }
}

/**
 * Builds an image into an engine's classic store, which needs its own exporter. The image contains an inline cache, as
 * there is no other way to export the cache from there.
 */
export function engineStoreRequest(input: BuildInput, session: string): Omit<SolveRequest, 'Ref'> {
  return {
    // The engine itself knows which registries have no TLS.
    ...buildRequest(input, { session, insecure: false }),
    Exporter: 'moby',
    ExporterAttrs: { name: input.reference },
    Cache: { Exports: [{ Type: 'inline', Attrs: {} }], Imports: [] },
  }
}

/** Builds only to pull the layers of the base image. */
export function layersRequest(
  input: BuildInput,
  target: Pick<RequestOptions, 'session' | 'insecure'>,
): Omit<SolveRequest, 'Ref'> {
  return { ...buildRequest(input, target), Internal: true }
}

/** Repeats a build to export its cache: the layers of every step are pushed to the registry. */
export function cacheRequest(
  input: BuildInput,
  ref: string,
  target: RequestOptions,
): Omit<SolveRequest, 'Ref'> {
  const attrs = {
    ref,
    mode: 'max',
    // As an image, for registries that support no other artifacts.
    'image-manifest': 'true',
    ...formatAttrs(target),
    ...insecureAttr(target),
  }
  return {
    ...buildRequest(input, target),
    Cache: { Exports: [{ Type: 'registry', Attrs: attrs }], Imports: [] },
    Internal: true,
  }
}

function buildRequest(
  input: BuildInput,
  target: Pick<RequestOptions, 'session' | 'insecure'>,
): Omit<SolveRequest, 'Ref'> {
  const { context, network } = input
  if (network !== null && !NETWORKS.includes(network)) {
    throw new ConveyorError('invalid', `BuildKit does not support the network ${network} for RUN steps`, {
      hint: `Set --build.network to ${NETWORKS.join(', ')}, or omit it`,
    })
  }
  const imports = input.cache ? input.cacheFrom.map((ref) => cacheImport(ref, target)) : []
  return {
    ...EMPTY_SOLVE,
    Session: target.session,
    FrontendAttrs: {
      filename: context.dockerfile,
      // Like the engine, prefer local images to the registry's.
      'image-resolve-mode': 'local',
      ...prefixed('label', input.labels),
      ...prefixed('build-arg', { ...cacheMountArgs(input), ...input.buildArgs }),
      ...(input.cache ? {} : { 'no-cache': '' }),
      ...(imports.length > 0 ? { 'cache-imports': JSON.stringify(imports) } : {}),
      ...(network === 'host' || network === 'none' ? { 'force-network-mode': network } : {}),
      ...settingsAttrs(input),
    },
    Entitlements: network === 'host' ? ['network.host'] : [],
  }
}

/** Networks of RUN steps. BuildKit does not support an engine's own networks. */
const NETWORKS = ['default', 'host', 'none']

function settingsAttrs({ target, platforms, hosts, ulimits, contexts }: BuildInput): Record<string, string> {
  const list = (values: Record<string, string>) =>
    Object.entries(values)
      .map(([name, value]) => `${name}=${value}`)
      .join(',')
  const attrs = {
    target: target ?? '',
    platform: platforms.join(','),
    'add-hosts': list(hosts),
    ulimit: list(ulimits),
    ...prefixed('context', contexts),
    // Makes frontends without support for named contexts fail instead of ignoring them.
    'frontend.caps': Object.keys(contexts).length > 0 ? 'moby.buildkit.frontend.contexts+forward' : '',
  }
  return Object.fromEntries(Object.entries(attrs).filter(([, value]) => value !== ''))
}

/** Attestations to attach. Build arguments are never included (mode=min), as some are confidential. */
function attestAttrs({ attest }: BuildInput): Record<string, string> {
  return {
    ...(attest.includes('provenance') ? { 'attest:provenance': 'mode=min' } : {}),
    ...(attest.includes('sbom') ? { 'attest:sbom': `generator=${SBOM_GENERATOR}` } : {}),
  }
}

/** The scanner image that `docker buildx build --sbom=true` uses. */
const SBOM_GENERATOR = 'docker.io/docker/buildkit-syft-scanner:stable-1'

function cacheImport(ref: string, target: Pick<RequestOptions, 'insecure'>): CacheOptionsEntry {
  return { Type: 'registry', Attrs: { ref, ...insecureAttr(target) } }
}

function formatAttrs({ format: { compression, oci } }: RequestOptions): Record<string, string> {
  return {
    compression,
    'oci-mediatypes': String(oci),
    // Also recompresses cached layers in other formats.
    ...(compression === 'gzip' ? { 'force-compression': 'true' } : {}),
  }
}

function insecureAttr({ insecure }: Pick<RequestOptions, 'insecure'>): Record<string, string> {
  return insecure ? { 'registry.insecure': 'true' } : {}
}

function prefixed(prefix: string, values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}:${name}`, value]))
}
