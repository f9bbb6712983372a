import type { CacheOptionsEntry, SolveRequest } from '../../buildkit/gen/control.ts'
import { remembered } from '../../buildkit/history.ts'
import { EMPTY_SOLVE } from '../../buildkit/solve.ts'
import { ConveyorError } from '../../core/errors.ts'
import { splitReference } from '../../registry/image-name.ts'
import type { BuildInput } from '../builder.ts'
import { cacheMountArgs } from '../cache-mount-args.ts'

/** How layers are packed. zstd is ten times as fast as gzip; Docker before 23 cannot read it. */
export type Compression = 'zstd' | 'gzip' | 'uncompressed'

/** What a registry takes. */
export interface LayerFormat {
  compression: Compression
  /** OCI's media types, or Docker's of old. zstd needs OCI's. */
  oci: boolean
}

/** What nearly every registry and client takes. */
export const COMPATIBLE: LayerFormat = { compression: 'gzip', oci: false }

export interface RequestOptions {
  /** Id of the session that files, logins and secrets come from. */
  session: string
  packing: LayerFormat
  /** The registry is spoken to without TLS. */
  insecure: boolean
}

/** The build of a context: its image is pushed as it is exported, or stays in the engine's store. */
export function imageRequest(input: BuildInput, target: RequestOptions): Omit<SolveRequest, 'Ref'> {
  const { reference, push, epoch, reproducible } = input
  const build = buildRequest(input, target)
  return {
    ...build,
    FrontendAttrs: {
      ...build.FrontendAttrs,
      ...attestAttrs(input),
      ...remembered(splitReference(reference).name),
    },
    Exporter: 'image',
    ExporterAttrs: {
      name: reference,
      ...packingAttrs(target),
      'source-date-epoch': String(epoch),
      ...(reproducible ? REWRITTEN : {}),
      // What is in the registry is not kept here once more; its layers stay in the cache.
      ...(push ? { push: 'true', store: 'false', ...insecureAttr(target) } : {}),
    },
    // The history says what was built here in full, so that nothing need be imported again.
    Internal: !push || (input.cache && input.cacheFrom.length > 0),
  }
}

/** Files in layers get no later time than the epoch: https://github.com/moby/buildkit/blob/v0.13.2/docs/build-repro.md */
const REWRITTEN = { 'rewrite-timestamp': 'true' }

/** Refused by a BuildKit that knows this attribute, as it is neither true nor false. */
export const REWRITE_PROBE = {
  ...EMPTY_SOLVE,
  Frontend: '',
  Exporter: 'image',
  ExporterAttrs: { 'rewrite-timestamp': '?' },
}

/** The same build, of which nothing is pushed or kept: it tells the digests. */
export function unpushed(request: Omit<SolveRequest, 'Ref'>): Omit<SolveRequest, 'Ref'> {
  const { push: _, ...rest } = request.ExporterAttrs
  return { ...request, ExporterAttrs: rest }
}

/**
 * The build of a context into the classic image store of an engine, which only an exporter of its own can
 * write; the image has a record of the cache in it, as nothing else would bring one to the registry.
 */
export function engineStoreRequest(input: BuildInput, session: string): Omit<SolveRequest, 'Ref'> {
  return {
    // Whether a registry has TLS is known to the engine itself.
    ...buildRequest(input, { session, insecure: false }),
    Exporter: 'moby',
    ExporterAttrs: { name: input.reference },
    Cache: { Exports: [{ Type: 'inline', Attrs: {} }], Imports: [] },
  }
}

/** A build for the sake of the layers that it is on. */
export function layersRequest(
  input: BuildInput,
  target: Pick<RequestOptions, 'session' | 'insecure'>,
): Omit<SolveRequest, 'Ref'> {
  return { ...buildRequest(input, target), Internal: true }
}

/** The same build again, for the sake of its cache: the layers of every step go to the registry. */
export function cacheRequest(
  input: BuildInput,
  ref: string,
  target: RequestOptions,
): Omit<SolveRequest, 'Ref'> {
  const attrs = {
    ref,
    mode: 'max',
    // As an image: registries that know no other artifacts take it too.
    'image-manifest': 'true',
    ...packingAttrs(target),
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
    throw new ConveyorError('invalid', `BuildKit has no network ${network} for RUN steps`, {
      hint: `Set --build.network to ${NETWORKS.join(', ')}, or leave it out`,
    })
  }
  const imports = input.cache ? input.cacheFrom.map((ref) => cacheImport(ref, target)) : []
  return {
    ...EMPTY_SOLVE,
    Session: target.session,
    FrontendAttrs: {
      filename: context.dockerfile,
      // As the engine does: an image of its own goes before the registry's.
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

/** Of RUN steps. BuildKit knows none of an engine's own. */
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
    // Without, frontends that know no contexts would pay no heed to them.
    'frontend.caps': Object.keys(contexts).length > 0 ? 'moby.buildkit.frontend.contexts+forward' : '',
  }
  return Object.fromEntries(Object.entries(attrs).filter(([, value]) => value !== ''))
}

/** What is said of the image beside it. Build arguments never are: some hold what is nobody's business. */
function attestAttrs({ attest }: BuildInput): Record<string, string> {
  return {
    ...(attest.includes('provenance') ? { 'attest:provenance': 'mode=min' } : {}),
    ...(attest.includes('sbom') ? { 'attest:sbom': `generator=${SBOM_GENERATOR}` } : {}),
  }
}

/** The image that lists what is in another, as `docker buildx build --sbom=true` uses it. */
const SBOM_GENERATOR = 'docker.io/docker/buildkit-syft-scanner:stable-1'

function cacheImport(ref: string, target: Pick<RequestOptions, 'insecure'>): CacheOptionsEntry {
  return { Type: 'registry', Attrs: { ref, ...insecureAttr(target) } }
}

function packingAttrs({ packing: { compression, oci } }: RequestOptions): Record<string, string> {
  return {
    compression,
    'oci-mediatypes': String(oci),
    // Also layers that are packed in another way in the cache.
    ...(compression === 'gzip' ? { 'force-compression': 'true' } : {}),
  }
}

function insecureAttr({ insecure }: Pick<RequestOptions, 'insecure'>): Record<string, string> {
  return insecure ? { 'registry.insecure': 'true' } : {}
}

function prefixed(prefix: string, values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}:${name}`, value]))
}
