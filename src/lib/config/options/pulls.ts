import { option, SERVER_ONLY } from '../option.ts'
import { oneOf, toggle } from '../values.ts'

/** Pull requests. */
export const PULLS = {
  enabled: option({
    flag: 'pulls',
    env: 'PULLS',
    help: 'Tag the images of pull requests (pr-7), and let people who may write approve commits of forks: on, or off',
    value: 'on|off',
    type: oneOf('on', 'off'),
    default: 'on',
    commands: SERVER_ONLY,
  }),
  keep: option({
    flag: 'pulls.keep',
    env: 'PULLS_KEEP',
    help: 'Keep the tags of pull requests when they are closed',
    type: toggle,
    commands: SERVER_ONLY,
  }),
}
