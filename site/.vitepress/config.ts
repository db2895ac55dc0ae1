// The site's pages are the repository's own: README.md, docs/ and the README of each package and example. Links between them are written as on GitHub.
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';

const root = fileURLToPath(new URL('../..', import.meta.url));
const packages = readdirSync(join(root, 'packages')).filter((name) => existsSync(join(root, 'packages', name, 'README.md')));

/** `docs/guides/plugin.md` -> `guides/plugin.md`, `packages/graph/README.md` -> `packages/graph/index.md` */
const pageOf = (path: string): string => path.replace(/^docs\//, '').replace(/README\.md$/, 'index.md');

/** Files that pages link to and that are no pages; the site has a copy of each. */
const linked = new Set<string>();

/** A link from a page of the repository, as an address of the site. What is not there stays as it is: VitePress reports it as dead. */
function addressOf(page: string, link: string): string {
  const [path = '', anchor] = link.split('#');
  if (/^[a-z]+:/.test(link) || path === '') return link;
  let target = posix.join(posix.dirname(page), path);
  if (!existsSync(join(root, target))) return link;
  if (statSync(join(root, target)).isDirectory()) target = posix.join(target, 'README.md');
  const suffix = anchor === undefined ? '' : `#${anchor}`;
  if (target.endsWith('.md')) return `/${pageOf(target)}${suffix}`;
  linked.add(target);
  return `/sources/${target}.txt`;
}

export default defineConfig({
  title: 'Graft',
  description: 'Serves language models from Node, and lets a hardware vendor change how a model runs without touching its code.',
  srcDir: '..',
  srcExclude: ['{scripts,site,tests}/**', 'packages/*/{test,src}/**', '**/.cache/**'],
  outDir: './dist',
  cacheDir: './.vitepress/cache',
  rewrites: pageOf,
  ignoreDeadLinks: [/^\/api\//], // typedoc's; build.mjs checks these links and all others in the finished site
  markdown: {
    html: false, // `<` in a page is a character
    config(md) {
      md.core.ruler.push('repository-links', ({ tokens, env }) => {
        const page = relative(root, env.realPath ?? env.path)
          .split(sep)
          .join('/');
        for (const token of tokens.flatMap(({ children }) => children ?? []))
          if (token.type === 'link_open') token.attrSet('href', addressOf(page, token.attrGet('href') ?? ''));
      });
    },
  },
  buildEnd({ outDir }) {
    for (const path of linked) {
      const copy = join(outDir, 'sources', `${path}.txt`);
      mkdirSync(dirname(copy), { recursive: true });
      copyFileSync(join(root, path), copy);
    }
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Tutorial', link: '/tutorial' },
      { text: 'Guides', link: '/guides/plugin', activeMatch: '/guides/' },
      { text: 'API', link: '/api/', target: '_self' },
    ],
    sidebar: [
      {
        text: 'Start',
        items: [
          { text: 'Graft in a minute', link: '/' },
          { text: 'Tutorial', link: '/tutorial' },
          { text: 'A first override', link: '/examples/first-override/' },
        ],
      },
      {
        text: 'Guides',
        items: [
          { text: 'Write a plugin', link: '/guides/plugin' },
          { text: 'Write a backend', link: '/guides/backend' },
          { text: 'Write a model', link: '/guides/model' },
          { text: 'Operating', link: '/guides/operating' },
          { text: 'Embedding', link: '/embedding' },
          { text: 'Is an override right?', link: '/verify' },
        ],
      },
      {
        text: 'Reference',
        items: [
          { text: 'API', link: '/api/', target: '_self' },
          { text: 'The command line', link: '/cli' },
          { text: 'Models', link: '/models' },
          { text: 'Errors', link: '/errors' },
          { text: 'Environment variables', link: '/env' },
          { text: 'The path of an override', link: '/override-path' },
          { text: 'Architecture', link: '/architecture' },
          { text: 'Parity', link: '/parity' },
          { text: 'Promises', link: '/promises' },
          { text: 'Decisions', link: '/adr/' },
        ],
      },
      { text: 'Packages', collapsed: true, items: packages.map((name) => ({ text: `@graft/${name}`, link: `/packages/${name}/` })) },
    ],
  },
});
