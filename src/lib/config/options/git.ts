import { EVERY_BUILD, option, SERVER_ONLY } from '../option.ts'
import { anyText, duration, isHttpUrl, listOf, matching, scoped, size, value } from '../values.ts'

const urlTemplate = value(
  'an https://, http://, ssh:// or file:// URL, or git@HOST:PATH, with {repository} in it and no password',
  (text) => (isGitTemplate(text) ? text : undefined),
)

function isGitTemplate(text: string): boolean {
  if (!text.includes('{repository}') || /\s/.test(text)) return false
  if (/^[\w.-]+@[\w.-]+:[^/]?/.test(text)) return true
  const url = URL.parse(text)
  return url?.protocol === 'file:' || (url?.protocol === 'ssh:' && url.password === '') || isHttpUrl(text)
}

/** Where repositories are fetched from. */
export const GIT = {
  url: option({
    flag: 'git.url',
    env: 'GIT_URL',
    help: 'URL template to fetch repositories from; for SSH: git@github.com:{repository}.git',
    value: 'template',
    type: urlTemplate,
    default: 'https://github.com/{repository}.git',
    defaultText: 'https://github.com/{repository}.git, or the same on the server of --github.url',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  sshKey: option({
    flag: 'git.ssh-key',
    env: 'GIT_SSH_KEY',
    help: 'Private key for fetching over SSH',
    value: 'file',
    type: anyText,
    commands: EVERY_BUILD,
  }),
  knownHosts: option({
    flag: 'git.known-hosts',
    env: 'GIT_KNOWN_HOSTS',
    help: 'File with the keys of SSH servers, as in ~/.ssh/known_hosts; accept-new trusts the first key of a server',
    value: 'file|accept-new',
    type: anyText,
    defaultText:
      "GitHub's published keys; for other servers, known_hosts next to the SSH key and that of the machine",
    commands: EVERY_BUILD,
  }),
  submodules: option({
    flag: 'git.submodules',
    env: 'GIT_SUBMODULES',
    help: 'More places to fetch submodules from: a host (without credentials), or an owner or repository on one (with them), such as github.com/acme. Besides, there are those of the same owner (with credentials) and all others on the host of --git.url (without); none turns these off',
    value: '[owner/name:]host[/owner[/name]]',
    type: scoped(matching('HOST[:PORT][/PATH], or none', /^[a-z0-9][\w.-]*(:\d{1,5})?(\/[\w.-]+)*$/i)),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  lfsHosts: option({
    flag: 'lfs.hosts',
    env: 'LFS_HOSTS',
    help: 'Git LFS servers that an .lfsconfig may name besides the git server; they get no credentials',
    value: 'host[:port]',
    type: listOf(
      matching('a host, such as lfs.example.com:8443', /^([a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])(:\d{1,5})?$/i),
    ),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  lfsCacheBytes: option({
    flag: 'lfs.cache',
    env: 'LFS_CACHE',
    help: 'Limit of the cache of Git LFS objects in the data directory; the least recently used ones are removed',
    value: 'size',
    type: size,
    default: '10GB',
    commands: EVERY_BUILD,
  }),
  compareMs: option({
    flag: 'git.compare',
    env: 'GIT_COMPARE',
    help: 'How often branches and git tags are compared with the builds, to build pushes whose webhook was lost; 0s for never',
    value: 'duration',
    type: duration(0, '4m or 1h'),
    default: '4m',
    commands: SERVER_ONLY,
  }),
}
