// Builds the docs site into site/dist, for `npm run docs`: pages by VitePress, the API reference by typedoc. A dead link or a warning fails the build.
// The packages for it are installed here alone, so that no other command waits for them.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const site = dirname(fileURLToPath(import.meta.url));
const root = dirname(site);
const dist = join(site, 'dist');
const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));

function install() {
  const pnpm = readJson(join(root, 'package.json')).packageManager;
  const args = [
    '--yes',
    '--prefer-offline',
    pnpm,
    'install',
    '--ignore-workspace',
    '--frozen-lockfile',
    '--prefer-offline',
    '--reporter=append-only',
  ];
  const { status, stdout } = spawnSync('npx', args, { cwd: site, encoding: 'utf8', env: { ...process.env, CI: 'true' } });
  if (status !== 0) throw new Error(`The packages of ${site} could not be installed.\n${stdout}`);
}

async function buildPages() {
  const { build } = await import('vitepress');
  await build(site);
}

/** Every entry point that a package exports, under the specifier that imports it. */
function entryPoints() {
  return readdirSync(join(root, 'packages')).flatMap((folder) => {
    const { name, exports } = readJson(join(root, 'packages', folder, 'package.json'));
    const sources = Object.entries(exports).filter(([, target]) => typeof target['@graft/source'] === 'string');
    return sources.map(([path, target]) => [join(root, 'packages', folder, target['@graft/source']), name + path.slice(1)]);
  });
}

async function buildReference() {
  const { Application, OptionDefaults, ReflectionKind } = await import('typedoc');
  const names = new Map(entryPoints());
  const app = await Application.bootstrap({
    name: 'Graft',
    tsconfig: join(site, 'tsconfig.json'),
    basePath: root,
    entryPoints: [...names.keys()],
    blockTags: [...OptionDefaults.blockTags, '@generated'],
    readme: 'none',
    disableSources: true,
    skipErrorChecking: true, // `npm test -- types` checks them
    treatWarningsAsErrors: true,
    logLevel: 'Warn',
    navigationLinks: { Docs: '../index.html' },
    validation: { notExported: false, invalidLink: true, rewrittenLink: true, notDocumented: false },
  });
  const project = await app.convert();
  if (project === undefined) throw new Error('typedoc could not read the sources.');
  for (const module of project.getReflectionsByKind(ReflectionKind.Module))
    module.name = names.get(project.getSymbolIdFromReflection(module)?.fileName) ?? module.name;
  app.validate(project);
  await app.generateDocs(project, join(dist, 'api'));
  if (app.logger.hasWarnings() || app.logger.hasErrors()) throw new Error('The API reference has warnings.');
}

const pagesUnder = (folder) => readdirSync(folder, { recursive: true }).filter((path) => path.endsWith('.html'));
const decoded = (text) => decodeURIComponent(text.replaceAll('&amp;', '&'));

/** Links of the finished site that lead to no file of it, or to no element of that page: `page: link`. */
function deadLinks() {
  const anchors = new Map();
  const pages = pagesUnder(dist).map((path) => ({ path: join(dist, path), text: readFileSync(join(dist, path), 'utf8') }));
  for (const { path, text } of pages) anchors.set(path, new Set([...text.matchAll(/ id="([^"]*)"/g)].map(([, id]) => decoded(id))));
  const dead = ({ path, text }) => {
    const links = [...text.matchAll(/ (?:href|src)="([^"]*)"/g)].map(([, link]) => link);
    return links
      .filter((link) => !/^([a-z]+:|\/\/|#$)/.test(link))
      .filter((link) => {
        const [file, anchor] = link.split('#').map(decoded);
        let target = file === '' ? path : resolve(file.startsWith('/') ? dist : dirname(path), file.replace(/^\//, ''));
        if (file.endsWith('/')) target = join(target, 'index.html');
        if (!existsSync(target)) return true;
        return target.endsWith('.html') && anchor && !anchors.get(target).has(anchor);
      });
  };
  return pages.flatMap((page) => [...new Set(dead(page))].map((link) => `${relative(dist, page.path)}: ${link}`));
}

for (const [name, step] of Object.entries({ install, buildPages, buildReference })) {
  const startMs = performance.now();
  await step();
  console.log(`${name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
}
const dead = deadLinks();
if (dead.length > 0) {
  console.error(`${dead.length} links are dead:\n${dead.join('\n')}`);
  process.exitCode = 1;
} else console.log(`site/dist: ${pagesUnder(dist).length} pages, no dead link`);
