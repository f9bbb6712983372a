import { EVERY_BUILD, option } from '../option.ts'
import { mapOf, oneOf, registry, toggle, value } from '../values.ts'

const ADDRESS_PAIR = /^([\w-]+(?:\.[\w-]+)*:\d{1,5})=((?:[\w-]+(?:\.[\w-]+)*|\[[\da-f:]+\]):\d{1,5})$/

const addressPair = value(
  'NAME:PORT=HOST:PORT, such as localhost:5000=registry:5000',
  (text): [string, string] | undefined => {
    const [, name, address] = ADDRESS_PAIR.exec(text) ?? []
    return name && address ? [name, address] : undefined
  },
)

/** Where images are pushed, and under which tags. */
export const IMAGES = {
  /** As given; registry/image-name.ts parses it. */
  registry: option({
    flag: 'registry',
    env: 'REGISTRY',
    help: 'Registry to push images to; start with http:// for a registry without TLS',
    value: 'host[/prefix]',
    type: registry,
    default: 'docker.io',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  /** Both `host:port`. */
  registryAddresses: option({
    flag: 'registry.address',
    env: 'REGISTRY_ADDRESS',
    help: 'Address of a registry for this process, where its name resolves to something else, as in a container: localhost:5000=registry:5000',
    value: 'name=address',
    type: mapOf(addressPair),
  }),
  latest: option({
    flag: 'latest',
    env: 'LATEST',
    help: 'Which builds move the latest tag',
    value: 'always|default-branch',
    type: oneOf('always', 'default-branch'),
    default: 'always',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  dry: option({
    flag: 'dry',
    env: 'DRY',
    help: 'Build without pushing the image',
    type: toggle,
    commands: EVERY_BUILD,
  }),
}
