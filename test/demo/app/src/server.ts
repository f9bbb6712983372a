import { createServer } from 'node:http'
import { greet, languages } from './greeting.ts'

const port = Number(process.env.PORT ?? 8080)

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://greeter')
  const name = decode(pathname.slice(1)) || 'world'
  const greeting = greet(name, searchParams.get('lang') ?? 'en')
  response.setHeader('content-type', 'text/plain; charset=utf-8')
  if (greeting === undefined) response.writeHead(404).end(`I speak ${languages.join(', ')}\n`)
  else response.end(`${greeting}\n`)
})

server.listen(port, () => console.log(`greeter listens on port ${port}`))

// The first process of a container has no default action for this signal.
process.on('SIGTERM', () => server.close())

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
