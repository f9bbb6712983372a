import { assetText, Dice, sourceText } from './content.ts'

/** How large a repository is. */
export interface Shape {
  repository: string
  /** Files in the tree, apart from the few that make it a Docker project. */
  files: number
  /** How many of them are assets of 100 to 500 KB; the others are sources of up to `sourceSize` bytes. */
  assets: number
  sourceSize: number
  commits: number
}

/** An application as many teams have one: 30 MB, years of history. */
export const APP: Shape = {
  repository: 'acme/app',
  files: 1500,
  assets: 60,
  sourceSize: 16_000,
  commits: 2000,
}

/** Many small files. */
export const MONOREPO: Shape = {
  repository: 'acme/monorepo',
  files: 20_000,
  assets: 20,
  sourceSize: 2000,
  commits: 200,
}

/** The paths of a shape's files: sources first, then documentation, then assets. */
export function pathsOf(shape: Shape): string[] {
  const docs = Math.floor(shape.files / 25)
  return Array.from({ length: shape.files }, (_, i) => {
    if (i >= shape.files - shape.assets) return `assets/${i % 7}/picture-${i}.svg`
    if (i >= shape.files - shape.assets - docs) return `docs/chapter-${i % 9}/page-${i}.md`
    return `src/area-${i % 12}/module-${i % 60}/part-${i}.ts`
  })
}

/** What a file holds. Each revision differs from any other in one line. */
export function contentOf(shape: Shape, path: string, revision: number): string {
  const seed = `${shape.repository}/${path}`
  const dice = new Dice(`size of ${seed}`)
  const text = path.startsWith('assets/')
    ? assetText(seed, 100_000 + dice.below(400_000))
    : sourceText(seed, 200 + dice.below(shape.sourceSize))
  return `// ${path}\nexport const revision = ${revision}\n${text}`
}

/** The list of dependencies. Any change to it rebuilds the layer of dependencies. */
export function depsLock(revision: number): string {
  const lines = Array.from({ length: 200 }, (_, i) => `package-${i} 1.${i % 10}.${i === 0 ? revision : 0}\n`)
  return lines.join('')
}

/** The files that build the image. `base` is the image to start from. */
export function projectFiles(base: string): Record<string, string> {
  return {
    'deps.lock': depsLock(0),
    '.dockerignore': '.git\ndocs\nDockerfile\n',
    'install-deps.pl': INSTALL_DEPS,
    'build.sh': BUILD,
    Dockerfile: [
      `FROM ${base}`,
      'WORKDIR /app',
      'COPY deps.lock install-deps.pl ./',
      'RUN perl install-deps.pl deps.lock vendor',
      'COPY . .',
      'RUN sh build.sh',
      'CMD ["cat", "build/manifest.txt"]',
      '',
    ].join('\n'),
  }
}

/** Stands for a package manager: 60 MB in 3,000 files, always the same from the same lock file. */
const INSTALL_DEPS = `use strict;
use warnings;
my ($lock, $folder) = @ARGV;
open(my $packages, '<', $lock) or die "$lock: $!";
mkdir $folder or die "$folder: $!";
srand(1);
my @lines = map { sprintf("module.exports.f%08x = require('%08x').g(%d)\\n", rand(2**32), rand(2**32), rand(1000)) } 1 .. 8000;
while (my $package = <$packages>) {
  chomp $package;
  srand(unpack('%32C*', $package));
  my ($name) = split / /, $package;
  mkdir "$folder/$name" or die "$name: $!";
  for my $number (1 .. 15) {
    open(my $file, '>', "$folder/$name/$number.js") or die "$name: $!";
    print $file "// $package\\n", map { $lines[rand @lines] } 1 .. 400;
    close($file) or die "$name: $!";
  }
}
`

/** Stands for a compiler: reads every file, writes a bundle, and a list of hashes that shows what it read. */
const BUILD = `set -eu
mkdir build
find . -type f ! -path './vendor/*' ! -path './build/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >build/manifest.txt
find src/area-0 src/area-1 -type f -print0 | LC_ALL=C sort -z | xargs -0 cat >build/bundle.js
`
