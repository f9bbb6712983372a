import { EVERY_BUILD, option } from '../option.ts'
import { oneOf, size, value } from '../values.ts'

const destination = oneOf('registry', 'none')
/** Whether the cache goes to the registry. */
const cacheExport = value(destination.accepts, (text, environment) => {
  const parsed = destination.parse(text, environment)
  return parsed && parsed === 'registry'
})

/** How layers are compressed and cached. */
export const LAYERS = {
  compression: option({
    flag: 'compression',
    env: 'COMPRESSION',
    help: 'Layer compression where BuildKit pushes (buildkitd, engines with the containerd image store); gzip for clients as old as Docker 22',
    value: 'zstd|gzip|uncompressed',
    type: oneOf('zstd', 'gzip', 'uncompressed'),
    default: 'zstd',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  exportCache: option({
    flag: 'cache.export',
    env: 'CACHE_EXPORT',
    help: 'Where BuildKit exports the cache of all steps for workers without one, after the tags are published; registry stores it next to the images as the tag conveyor..cache',
    value: 'registry|none',
    type: cacheExport,
    default: 'registry',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  maxCacheBytes: option({
    flag: 'cache.max',
    env: 'CACHE_MAX',
    help: 'Maximum size of the build cache of the engine, or of each buildkitd: 500MB, 20GB',
    value: 'size',
    type: size,
    defaultText: 'as configured in the engine or buildkitd',
  }),
}
