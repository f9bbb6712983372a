import { type Row, short } from './summary.ts'

/** As wide as a page of documentation. */
const WIDTH = 760
const LABEL = 140
const BAR = 16
const GAP = 4
const HEAD = 30

/** Colors that are easy to distinguish on white and on black; Conveyor's are the strong ones. */
const COLORS: Record<string, string> = {
  conveyor: '#2f81f7',
  'conveyor-containerd': '#1b6fdb',
  'conveyor-buildkit': '#0f5cc0',
  classic: '#9a8c7a',
  buildkit: '#8fa3a0',
  buildah: '#a58fa8',
  buildctl: '#8b8fb5',
}

/** An SVG with a group of bars for each scenario, as long as the medians; each group has its own scale. */
export function chart(rows: Row[]): string {
  const parts: string[] = []
  let y = 8
  for (const { scenario, cells } of rows) {
    parts.push(text(0, y + 14, 'title', `${scenario.id}: ${scenario.title}`))
    y += HEAD - 6
    const longest = Math.max(...[...cells.values()].map(({ seconds }) => seconds?.median ?? 0))
    for (const [name, { seconds }] of cells) {
      parts.push(text(0, y + BAR - 4, 'name', name))
      if (seconds) {
        const width = Math.max(1, (seconds.median / longest) * (WIDTH - LABEL - 80))
        const fill = COLORS[name] ?? '#888888'
        parts.push(
          `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="2" fill="${fill}"/>`,
          text(LABEL + width + 6, y + BAR - 4, 'value', `${short(seconds.median)} s`),
        )
      } else parts.push(text(LABEL, y + BAR - 4, 'value', 'failed'))
      y += BAR + GAP
    }
    y += 14
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-label="Seconds from a push to a published image, by scenario">
<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .value { font-variant-numeric: tabular-nums }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>
${parts.join('\n')}
</svg>
`
}

function text(x: number, y: number, kind: string, content: string): string {
  return `<text x="${x.toFixed(1)}" y="${y}" class="${kind}">${content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`
}
