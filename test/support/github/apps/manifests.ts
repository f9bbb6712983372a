import { randomBytes } from 'node:crypto'
import { problem } from '../protocol.ts'
import { webhookExamples } from '../push.ts'
import type { GitHubSchema, Operation } from '../schema.ts'
import type { Serve } from '../serve.ts'
import type { TestApp, TestApps } from './apps.ts'

/** An App that was made from a manifest. */
export interface ManifestApp extends TestApp {
  webhookSecret: string
}

/** What GitHub's website does with the manifest of an App: https://docs.github.com/apps/sharing-github-apps */
export class ManifestsDouble {
  readonly #apps: TestApps
  readonly #schema: GitHubSchema
  readonly #byCode = new Map<string, ManifestApp>()

  constructor(apps: TestApps, schema: GitHubSchema) {
    this.#apps = apps
    this.#schema = schema
  }

  /**
   * The user posts the form and confirms. @returns the code with which GitHub leads back
   * @throws Error with what GitHub's website would complain about
   */
  async post(manifest: Record<string, unknown>): Promise<{ code: string; app: ManifestApp }> {
    const { name, url, hook_attributes, redirect_url, callback_urls, default_permissions, default_events } =
      manifest as Record<string, unknown> & { default_events: string[]; callback_urls: string[] }
    const known = new Set((await webhookExamples()).map((event) => event.name).concat('merge_group'))
    const hook = (hook_attributes as { url?: string } | undefined)?.url
    const wrong = [
      ...(typeof name === 'string' && name.length > 0 && name.length <= 34 ? [] : ['name']),
      ...[url, hook, redirect_url, ...callback_urls].filter((one) => !/^https?:\/\//.test(String(one))),
      ...this.#schema.checkPayload('app-permissions', default_permissions),
      ...Object.keys(default_permissions as object).filter((one) => !this.#permissions().has(one)),
      ...default_events.filter((event) => !known.has(event)),
    ]
    if (wrong.length > 0) throw new Error(`GitHub does not accept the manifest: ${wrong.join('; ')}`)
    const permissions = default_permissions as Record<string, string>
    const made = await this.#apps.create({ name: String(name), permissions, events: default_events })
    const app: ManifestApp = Object.assign(made, { webhookSecret: randomBytes(20).toString('hex') })
    const code = randomBytes(20).toString('hex')
    this.#byCode.set(code, app)
    return { code, app }
  }

  routes(): [Operation, Serve][] {
    const convert: Serve = ({ params: { code = '' } }, _, example) => {
      const app = this.#byCode.get(code)
      // A code works once.
      this.#byCode.delete(code)
      if (!app) return problem(404, 'Not Found')
      const { id, name, clientId, clientSecret, webhookSecret, privateKey, permissions, events } = app
      const secrets = { client_id: clientId, client_secret: clientSecret, webhook_secret: webhookSecret }
      return {
        kind: 201,
        body: { ...example(201), ...secrets, id, name, permissions, events, pem: privateKey },
      }
    }
    const setHook: Serve = (about, body, example) => {
      const app = this.#apps.signer(about)
      if ('kind' in app) return app
      const { secret } = body as { secret?: string }
      if (secret !== undefined) Object.assign(app, { webhookSecret: secret })
      return { kind: 200, body: { ...example(200), secret: '********' } }
    }
    return [
      [this.#schema.operation('POST', '/app-manifests/{code}/conversions'), convert],
      [this.#schema.operation('PATCH', '/app/hook/config'), setHook],
    ]
  }

  #permissions(): Set<string> {
    return this.#schema.fieldsOf('app-permissions')
  }
}
