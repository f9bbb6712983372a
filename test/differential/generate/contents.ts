import { gzipSync } from 'node:zlib'
import type { Draw } from './draw.ts'
import { type Bytes, directories, type Entry, hasRoom, type Tree, utf8 } from './model.ts'
import { path } from './names.ts'

/** A file with some content. */
export function file(draw: Draw): Entry {
  return { kind: 'file', content: content(draw), executable: draw.chance(15) }
}

/** There are few different contents, so the same ones return under other names and at other times. */
export function content(draw: Draw): Bytes {
  const version = draw.whole(1, 4)
  return draw.weighted<() => Bytes>([
    [40, () => `v${version}\n`],
    [10, () => `one ${version}\r\ntwo\r\n`],
    [10, () => `one\ntwo ${version}\nthree\n`],
    [5, () => `mixed ${version}\r\nends\n`],
    [8, () => `version $Id$ ${version}\n$Id: old $\n`],
    [8, () => ''],
    [5, () => utf8(`größe ${version} 日本\n`)],
    [4, () => `bin\0ary ${version}\r\n\xff\n`],
    [3, () => `\xe9t\xe9 ${version}\n`],
    [2, () => 'no line end'],
    [2, () => 'large '.repeat(30_000) + version],
  ])()
}

export function link(draw: Draw, tree: Tree, pool: readonly Bytes[]): Entry {
  const there = [...tree.keys(), ...directories(tree)]
  const some = () => (there.length > 0 ? draw.one(there) : 'nowhere')
  const target = draw.weighted<() => Bytes>([
    [30, some],
    [15, () => some().split('/').at(-1) ?? 'a'],
    [10, () => `/${some()}`],
    [10, () => `../${some()}`],
    [4, () => `./${some()}/`],
    [3, () => `${some()}/../${some()}`],
    [5, () => path(draw, pool)],
    [
      3,
      () =>
        draw.one(['.', '..', '/', './', '../..', 'a//b', '../../../../etc/passwd', '/etc/passwd', 'nowhere']),
    ],
    [2, () => draw.one(['\xff', utf8('zu-ä'), 'a\nb', 'with blank', '*', 'x'.repeat(300)])],
  ])()
  return { kind: 'link', target }
}

/** A repository's first files. */
export function files(draw: Draw, pool: readonly Bytes[], links: boolean): Map<Bytes, Entry> {
  const tree = new Map<Bytes, Entry>()
  for (let wanted = draw.whole(2, 9); wanted > 0; wanted--) {
    const at = path(draw, pool)
    if (!hasRoom(tree, at)) continue
    tree.set(at, links && draw.chance(35) ? link(draw, tree, pool) : file(draw))
  }
  return tree
}

/** Names of archives, whatever their content is. */
export const ARCHIVES = ['x.tar', 'x.tar.gz', 'x.tgz', 'data.txt']

/** An archive of some small files, occasionally truncated. */
export function archive(draw: Draw): Entry {
  const items = draw.times(1, 3, (index) =>
    tarItem(draw.one(['in', 'in/deep', `f${index}`, './dot']), content(draw).slice(0, 400)),
  )
  const bytes = Buffer.concat([...items, Buffer.alloc(1024)])
  const packed = draw.chance(50) ? gzipSync(bytes) : bytes
  const whole = draw.chance(90) ? packed : packed.subarray(0, Math.floor(packed.length * 0.6))
  return { kind: 'file', content: whole.toString('latin1'), executable: false }
}

function tarItem(name: string, text: Bytes): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  const header = Buffer.alloc(512)
  header.write(name, 0)
  header.write('0000644\x000000000\x000000000\x00', 100)
  header.write(`${bytes.length.toString(8).padStart(11, '0')}\x0000000000000\x00        0`, 124)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)])
}
