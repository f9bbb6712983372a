import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validSha } from '../../core/validate.ts'
import type { Forge, ForgePermission } from '../forge.ts'
import type { Need } from './errors.ts'
import { type GitHubApi, notGitHub, ownerAndName, readable } from './requests.ts'
import { fieldsOf } from './webhook/fields.ts'
import { pullInAnswer } from './webhook/pull-request.ts'

const READ: Need = { scope: 'repo', permission: 'Pull requests: read' }
const READ_COMMIT: Need = { scope: 'repo', permission: 'Contents: read' }
// GitHub answers this only to tokens of accounts that may push.
const READ_PERMISSION: Need = { scope: 'repo', permission: 'Metadata: read' }

/** What Conveyor asks GitHub about pull requests. */
export function pullRequests({
  octokit,
  call,
  once,
}: GitHubApi): Pick<Forge, 'pull' | 'permission' | 'message'> {
  return {
    async pull(repository, number) {
      const at = { ...ownerAndName(repository), pull_number: number }
      const action = `look up pull request #${number} of ${repository}`
      return call({ action, need: READ, repository }, async (request) => {
        const { data } = await octokit.pulls.get({ ...at, request })
        return readable(action, () => pullInAnswer(repository, fieldsOf('pull request', data)))
      })
    },

    async permission(repository, login) {
      const at = { ...ownerAndName(repository), username: login }
      const action = `look up what ${login} may do in ${repository}`
      return call({ action, need: READ_PERMISSION, repository }, async (request) => {
        const { data } = await octokit.repos.getCollaboratorPermissionLevel({ ...at, request })
        if (!isPermission(data.permission)) throw notGitHub(action)
        return data.permission
      }).catch((error: unknown) => {
        // No such account, or one that has nothing to do with the repository.
        if (error instanceof ConveyorError && error.kind === 'not_found') return 'none'
        throw error
      })
    },

    async message(repository, sha, signal) {
      const at = { ...ownerAndName(repository), commit_sha: validSha(sha) }
      const action = `read the message of ${shortName({ repository, sha })}`
      return once({ action, need: READ_COMMIT, repository, signal }, async (request) => {
        const { data } = await octokit.git.getCommit({ ...at, request })
        return readable(action, () => fieldsOf('commit', data).text('message'))
      })
    },
  }
}

function isPermission(value: string): value is ForgePermission {
  return ['admin', 'write', 'read', 'none'].includes(value)
}
