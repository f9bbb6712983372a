import { option, SERVER_ONLY } from '../option.ts'
import {
  httpUrl,
  listOf,
  matching,
  oneOf,
  repositoryPattern,
  scoped,
  scopedOnce,
  toggle,
  value,
} from '../values.ts'

const url = value('an http:// or https:// URL without login', httpUrl)

/** Webhooks that are sent when builds end. */
export const NOTIFY = {
  urls: option({
    flag: 'notify.url',
    env: 'NOTIFY_URL',
    help: 'URLs that get a signed POST whenever a build has ended',
    value: '[owner/name:]url',
    type: scoped(url),
    defaultText: 'none',
    // The URLs of many services contain a password.
    secret: 'all',
    commands: SERVER_ONLY,
  }),
  secrets: option({
    flag: 'notify.secret',
    env: 'NOTIFY_SECRET',
    help: 'Secret that signs what --notify.url gets (X-Conveyor-Signature-256)',
    value: '[owner/name:]secret',
    // A comma would end it, and the rest would sign.
    type: scopedOnce(matching('some text without commas', /./s)),
    defaultText: 'no signature',
    secret: 'all',
    commands: SERVER_ONLY,
  }),
  formats: option({
    flag: 'notify.format',
    env: 'NOTIFY_FORMAT',
    help: "What --notify.url gets: conveyor (every build that has ended), or dockerhub (each tag of a new image, as Docker Hub's webhooks)",
    value: '[owner/name:]conveyor|dockerhub',
    type: scoped(oneOf('conveyor', 'dockerhub')),
    defaultText: 'conveyor',
    commands: SERVER_ONLY,
  }),
  local: option({
    flag: 'notify.local',
    env: 'NOTIFY_LOCAL',
    help: 'Let --notify.url lead to this machine (localhost, 127.0.0.1)',
    type: toggle,
    commands: SERVER_ONLY,
  }),
}

export const REBUILD = {
  /** Globs; an empty list for none. */
  bases: option({
    flag: 'rebuild.base',
    env: 'REBUILD_BASE',
    help: 'Repositories whose default branch and newest release are built again when a base image has moved, such as acme/*; looked up hourly, built at most daily',
    value: 'owner/name',
    type: listOf(repositoryPattern),
    defaultText: 'none',
    commands: SERVER_ONLY,
  }),
}
