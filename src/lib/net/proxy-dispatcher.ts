import { Agent, type Dispatcher, fetch, ProxyAgent, type RequestInit } from 'undici'
import { type HttpProxy, type Proxies, proxyFor } from './proxies.ts'

const CONNECT_MS = 10_000

/** Connections for undici, through proxies where configured. */
export interface Connections {
  dispatcher: Dispatcher
  /** Closes all of them immediately. */
  destroy(): Promise<void>
}

/** @param options for all connections; its `connect` is only for direct ones */
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

/** `fetch` through proxies; undefined without proxies, because Node's own suffices. */
export function proxyingFetch(proxies: Proxies): typeof globalThis.fetch | undefined {
  if (!proxies.http && !proxies.https) return undefined
  const { dispatcher } = connections(proxies, {})
  const proxying = (url: string | URL, init?: RequestInit) => fetch(url, { ...init, dispatcher })
  return proxying as unknown as typeof globalThis.fetch
}
