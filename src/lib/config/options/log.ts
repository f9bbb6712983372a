import { option } from '../option.ts'
import { oneOf } from '../values.ts'

/** What the process writes about itself to standard error. */
export const LOG = {
  format: option({
    flag: 'log.format',
    env: 'LOG_FORMAT',
    help: 'Format of the log on standard error: json, pretty, text (plain lines), or auto (pretty in a terminal, otherwise json)',
    value: 'format',
    type: oneOf('auto', 'json', 'pretty', 'text'),
    default: 'auto',
  }),
}
