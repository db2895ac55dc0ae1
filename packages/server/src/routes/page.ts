import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';

const contentTypes: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** No inline script or style, nothing from other hosts: a model's output can neither run nor call home. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:", // the images of the user's messages
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types dompurify',
].join('; ');

/** GET / and its files: the chat page, with marked and DOMPurify from node_modules under /vendor/. */
export function pageRoutes(app: FastifyInstance): void {
  const folder = fileURLToPath(new URL('../../page/', import.meta.url));
  for (const name of readdirSync(folder)) {
    if (extname(name) in contentTypes) serve(app, name === 'index.html' ? '/' : `/${name}`, join(folder, name));
  }
  const require = createRequire(import.meta.url);
  serve(app, '/vendor/marked.js', require.resolve('marked'));
  serve(app, '/vendor/dompurify.js', join(dirname(require.resolve('dompurify')), 'purify.es.mjs'));
}

function serve(app: FastifyInstance, url: string, path: string): void {
  const body = readFileSync(path);
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  const type = contentTypes[extname(path)]!;
  app.get(url, (request, reply) => {
    reply.headers({ etag, 'cache-control': 'no-cache', 'content-security-policy': contentSecurityPolicy });
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    return reply.type(type).send(body);
  });
}
