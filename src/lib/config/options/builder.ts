import { type BuildkitAddress, parseBuildkitAddress } from '../../buildkit/address.ts'
import { LOCAL, option } from '../option.ts'
import { anyText, listOf, mapOf, matching, nameOf, oneOf, toggle, value, wholeNumber } from '../values.ts'

const buildkitAddress = value(
  'tcp://HOST[:PORT] or unix:///PATH',
  (text): [string, BuildkitAddress] | undefined => {
    const address = parseBuildkitAddress(text)
    return address && [text, address]
  },
)

const container = nameOf('container, or none')
/** null: none. */
const optionalContainer = value(container.accepts, (text) =>
  text === 'none' ? null : container.parse(text, {}),
)

/** The target is an absolute path in the container; the source is one, too, or the name of a volume. */
const MOUNT = /^(\/[^:,\s]*|[A-Za-z0-9][\w.-]*):\/[^:,\s]*(:r[ow])?$/

/** What builds. */
export const BUILDER = {
  kind: option({
    flag: 'builder',
    env: 'BUILDER',
    help: 'Where builds run: in the Docker engine, in the buildkitd of --buildkit.addr, in containers of --builder.image, or as jobs on a Docker Swarm',
    value: 'engine|buildkit|image|swarm',
    type: oneOf('engine', 'buildkit', 'image', 'swarm'),
    defaultText: 'image if --builder.image is given, otherwise engine',
    commands: LOCAL,
  }),
}

/** BuildKit daemons. */
export const BUILDKIT = {
  /** By their texts. */
  addresses: option({
    flag: 'buildkit.addr',
    env: 'BUILDKIT_ADDR',
    help: 'Address of buildkitd, tcp://HOST[:PORT] or unix:///PATH; with several, each repository has a preferred node',
    value: 'address',
    type: mapOf(buildkitAddress),
    commands: LOCAL,
  }),
  tls: option({
    flag: 'buildkit.tls',
    env: 'BUILDKIT_TLS',
    help: 'Directory with the certificates for tcp:// addresses: ca.pem, cert.pem, and key.pem',
    value: 'dir',
    type: anyText,
    commands: LOCAL,
  }),
  builds: option({
    flag: 'buildkit.builds',
    env: 'BUILDKIT_BUILDS',
    help: "Concurrent builds on one buildkitd, before builds spill over to the repository's next node",
    value: 'number',
    type: wholeNumber(1, 1000),
    default: '4',
  }),
}

/** Containers of a builder image, in the engine or on a Swarm. */
export const BUILDER_IMAGE = {
  image: option({
    flag: 'builder.image',
    env: 'BUILDER_IMAGE',
    help: 'Image that runs the build, configured through REPOSITORY, SHA, BRANCH, DRY, and CACHE',
    value: 'image',
    type: matching('the name of an image', /^\S+$/),
    // As in the first Conveyor.
    default: 'remind101/conveyor-builder',
    commands: ['worker', 'bootstrap'],
  }),
  data: option({
    flag: 'builder.data',
    env: 'BUILDER_DATA',
    help: 'Container whose volumes hold the SSH key and logins of the builder image, or none',
    value: 'container',
    type: optionalContainer,
    default: 'data',
    commands: ['worker', 'bootstrap'],
  }),
  network: option({
    flag: 'builder.network',
    env: 'BUILDER_NETWORK',
    help: 'Network of the containers of the builder image',
    value: 'name',
    type: nameOf('network, such as host or none'),
    defaultText: 'as configured in the engine',
  }),
  mounts: option({
    flag: 'builder.mount',
    env: 'BUILDER_MOUNT',
    help: 'Mounts of the builder image, SOURCE:TARGET[:ro], such as the engine socket',
    value: 'source:target',
    type: listOf(matching('SOURCE:TARGET or SOURCE:TARGET:ro', MOUNT)),
  }),
  constraints: option({
    flag: 'builder.constraint',
    env: 'BUILDER_CONSTRAINT',
    help: 'Placement constraints for builds on a Swarm, such as node.labels.builder==true',
    value: 'constraint',
    type: listOf(matching('NAME==VALUE or NAME!=VALUE', /^\S+ ?[!=]= ?\S+$/)),
  }),
  privileged: option({
    flag: 'builder.privileged',
    env: 'BUILDER_PRIVILEGED',
    help: 'Run the builder image privileged, for images that start an engine of their own',
    type: toggle,
  }),
}
