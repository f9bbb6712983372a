import { Agent, type Dispatcher, fetch, ProxyAgent, type RequestInit } from 'undici'
import { type HttpProxy, type Proxies, proxyFor } from './proxies.ts'

const CONNECT_MS = 10_000

/** Connections for undici, some of them through proxies. */
export interface Connections {
  dispatcher: Dispatcher
  /** Ends all of them at once. */
  destroy(): Promise<void>
}

/** @param options of all connections; its `connect` is for those that need no proxy */
export function connections(proxies: Proxies, options: Agent.Options): Connections {
  const { connect = { timeout: CONNECT_MS }, ...rest } = options
  const direct = new Agent({ ...rest, connect })
  const through = new Map<HttpProxy, ProxyAgent>()
  const agentFor = (proxy: HttpProxy): ProxyAgent => {
    const known = through.get(proxy)
    if (known) return known
    const token = proxy.authorization === null ? {} : { token: proxy.authorization }
    const made = new ProxyAgent({ ...rest, ...token, uri: proxy.url.href, connectTimeout: CONNECT_MS })
    through.set(proxy, made)
    return made
  }
  const dispatcher = direct.compose((dispatch) => (request, handler) => {
    const proxy = request.origin ? proxyFor(new URL(request.origin), proxies) : null
    return proxy ? agentFor(proxy).dispatch(request, handler) : dispatch(request, handler)
  })
  return {
    dispatcher,
    async destroy() {
      await Promise.all([direct, ...through.values()].map((agent) => agent.destroy()))
    },
  }
}

/** `fetch` for those who bring their own; undefined without proxies, where Node's will do. */
export function proxyingFetch(proxies: Proxies): typeof globalThis.fetch | undefined {
  if (!proxies.http && !proxies.https) return undefined
  const { dispatcher } = connections(proxies, {})
  const proxying = (url: string | URL, init?: RequestInit) => fetch(url, { ...init, dispatcher })
  return proxying as unknown as typeof globalThis.fetch
}
