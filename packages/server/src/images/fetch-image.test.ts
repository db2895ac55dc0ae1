import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { GraftError } from '@graft/common';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type FetchImage, fetchImage } from './fetch-image.ts';
import { parseImageHost } from './image-host.ts';

const bytes = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 1, 2, 3);
const asPng = { 'content-type': 'image/png' };

/** A server of images on this machine, and what it was asked. */
async function serve(answer: RequestListener): Promise<{ port: number; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.headers.host} ${request.url}`);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

const options = (port: number, more: Partial<FetchImage> = {}): FetchImage => ({
  allowed: [`localhost:${port}`, `127.0.0.1:${port}`, `[::ffff:7f00:1]:${port}`],
  allowPrivate: true,
  maxBytes: 100,
  timeoutMs: 5000,
  where: 'messages[0]',
  signal: new AbortController().signal,
  ...more,
});

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  );
  if (!GraftError.is(error)) throw new Error('This did not fail with a GraftError.', { cause: error });
  return error.code;
}

test('the bytes come from an allowed host, which is asked by its name', async () => {
  const { port, asked } = await serve((_, response) => response.writeHead(200, asPng).end(bytes));
  expect(await fetchImage(`http://localhost:${port}/a.png?b`, options(port))).toEqual(bytes);
  expect(await fetchImage(`HTTP://LOCALHOST:${port}/c.png`, options(port))).toEqual(bytes);
  expect(asked).toEqual([`localhost:${port} /a.png?b`, `localhost:${port} /c.png`]);
});

test.each<[string, string, boolean]>([
  ['LocalHost:PORT', 'http://localhost:PORT/', true],
  ['127.1:PORT', 'http://127.0.0.1:PORT/', true],
  ['localhost', 'http://localhost:PORT/', false],
  ['localhost:80', 'http://localhost:PORT/', false],
  ['*', 'http://localhost:PORT/', false],
  ['http://localhost:PORT', 'http://localhost:PORT/', false],
  ['user@localhost:PORT', 'http://localhost:PORT/', false],
])('with %s allowed, %s is fetched: %s', async (host, url, fetched) => {
  const { port, asked } = await serve((_, response) => response.writeHead(200, asPng).end(bytes));
  const allowed = [host.replace('PORT', `${port}`)];
  await fetchImage(url.replace('PORT', `${port}`), options(port, { allowed })).catch(() => undefined);
  expect(asked.length).toBe(fetched ? 1 : 0);
});

test.each([
  ['Example.COM', { hostname: 'example.com', port: null }],
  ['example.com:443', { hostname: 'example.com', port: '443' }],
  ['example.com:080', { hostname: 'example.com', port: '80' }],
  ['bücher.example', { hostname: 'xn--bcher-kva.example', port: null }],
  ['0x7f.1', { hostname: '127.0.0.1', port: null }],
  ['[::FFFF:127.0.0.1]:8080', { hostname: '[::ffff:7f00:1]', port: '8080' }],
  ['', null],
  ['https://example.com', null],
  ['example.com/', null],
  ['*.example.com', null],
  ['user@example.com', null],
  ['example.com:', null],
  ['example.com:99999', null],
  ['a b', null],
  ['a,b:c', null],
])('the host of %j is %o', (text, host) => expect(parseImageHost(text)).toEqual(host));

test('the port of a scheme may be named, and means that scheme alone', async () => {
  const named = { allowed: ['localhost:443'], timeoutMs: 2000 };
  expect(await codeOf(fetchImage('https://localhost/', options(1, named)))).toBe('GRAFT_IMAGE_FETCH'); // nobody listens there
  expect(await codeOf(fetchImage('http://localhost/', options(1, named)))).toBe('GRAFT_IMAGE_HOST');
});

describe('no host is contacted', () => {
  const nobody = async (url: (port: number) => string, more: Partial<FetchImage> = {}) => {
    const { port, asked } = await serve((_, response) => response.writeHead(200, asPng).end(bytes));
    const code = await codeOf(fetchImage(url(port), options(port, more)));
    expect(asked).toEqual([]);
    return code;
  };

  test.each<[string, (port: number) => string]>([
    ['another host', (port) => `http://example.com:${port}/a.png`],
    ['another port of the host', (port) => `http://localhost:${port === 1 ? 2 : port - 1}/a.png`],
    ['an allowed host as a part of a name', (port) => `http://localhost.example.com:${port}/a.png`],
    ['an allowed host in the path', (port) => `http://example.com/localhost:${port}/a.png`],
  ])('for %s', async (_, url) => expect(await nobody(url)).toBe('GRAFT_IMAGE_HOST'));

  test('when no host is allowed', async () =>
    expect(await nobody((port) => `http://localhost:${port}/`, { allowed: [] })).toBe('GRAFT_IMAGE_HOST'));

  test.each<[string, (port: number) => string]>([
    ['a name', (port) => `http://localhost:${port}/a.png`],
    ['an address', (port) => `http://127.0.0.1:${port}/a.png`],
    ['a short address', (port) => `http://127.1:${port}/a.png`],
    ['a number', (port) => `http://2130706433:${port}/a.png`],
    ['a hexadecimal number', (port) => `http://0x7f.0.0.1:${port}/a.png`],
    ['IPv4 in IPv6', (port) => `http://[::ffff:127.0.0.1]:${port}/a.png`],
  ])('for an allowed host with a private address: %s', async (_, url) =>
    expect(await nobody(url, { allowPrivate: false })).toBe('GRAFT_IMAGE_ADDRESS'),
  );

  test.each([
    'http://user@localhost/a.png',
    'http://:secret@localhost/a.png',
    'http://',
    'http://local host/',
    'ftp://localhost/a.png',
    'file:///etc/passwd',
  ])('for %s', async (url) => expect(await nobody(() => url)).toBe('GRAFT_IMAGE_FETCH'));
});

describe('an answer is refused for', () => {
  test.each<[string, RequestListener, string]>([
    ['a redirect, which is not followed', (_, response) => response.writeHead(302, { location: '/other.png' }).end(), 'GRAFT_IMAGE_FETCH'],
    ['a status other than 200', (_, response) => response.writeHead(404, asPng).end(bytes), 'GRAFT_IMAGE_FETCH'],
    ['no image', (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'), 'GRAFT_IMAGE_TYPE'],
    ['no type', (_, response) => response.writeHead(200).end(bytes), 'GRAFT_IMAGE_TYPE'],
    [
      'an answer that is packed',
      (_, response) => response.writeHead(200, { ...asPng, 'content-encoding': 'gzip' }).end(bytes),
      'GRAFT_IMAGE_FETCH',
    ],
    [
      'more bytes than the limit, announced',
      (_, response) => response.writeHead(200, { ...asPng, 'content-length': 101 }).end(),
      'GRAFT_IMAGE_BYTES',
    ],
    [
      'a connection that is cut',
      (_, response) => response.writeHead(200, { ...asPng, 'content-length': 50 }).write(bytes, () => response.destroy()),
      'GRAFT_IMAGE_FETCH',
    ],
  ])('%s', async (_, answer, code) => {
    const { port, asked } = await serve(answer);
    expect(await codeOf(fetchImage(`http://localhost:${port}/a.png`, options(port)))).toBe(code);
    expect(asked).toHaveLength(1);
  });

  test('bytes without end: reading stops at the limit', async () => {
    let written = 0;
    let closed: (() => void) | undefined;
    const whenClosed = new Promise<void>((resolve) => void (closed = resolve));
    const { port } = await serve((_, response) => {
      response.writeHead(200, asPng).once('close', () => closed!());
      const write = () => {
        if (response.destroyed) return;
        written += 64;
        response.write(Buffer.alloc(64), () => setImmediate(write));
      };
      write();
    });
    expect(await codeOf(fetchImage(`http://localhost:${port}/`, options(port)))).toBe('GRAFT_IMAGE_BYTES');
    await whenClosed;
    expect(written).toBeGreaterThan(100);
  });

  test('silence: the fetch takes longer than the timeout', async () => {
    const { port } = await serve(() => undefined);
    const slow = fetchImage(`http://localhost:${port}/`, options(port, { timeoutMs: 100 }));
    await expect(slow).rejects.toMatchObject({ code: 'GRAFT_IMAGE_FETCH', what: expect.stringContaining('more than 0.1 s') });
  });

  test('slow bytes: the fetch takes longer than the timeout, and the bytes so far are not an image', async () => {
    const { port } = await serve((_, response) => {
      response.useChunkedEncodingByDefault = false; // ends with its connection
      response.writeHead(200, { ...asPng, connection: 'close' });
      const timer = setInterval(() => (response.destroyed ? clearInterval(timer) : response.write('a')), 10);
    });
    const slow = fetchImage(`http://localhost:${port}/`, options(port, { timeoutMs: 100 }));
    await expect(slow).rejects.toMatchObject({ code: 'GRAFT_IMAGE_FETCH', what: expect.stringContaining('more than 0.1 s') });
  });

  test('another protocol', async () => {
    const { port } = await serve((_, response) => {
      response.socket!.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    });
    expect(await codeOf(fetchImage(`http://localhost:${port}/`, options(port)))).toBe('GRAFT_IMAGE_FETCH');
  });

  test('the rest of it, once the client has gone', async () => {
    const controller = new AbortController();
    const { port } = await serve(() => controller.abort(new Error('gone')));
    await expect(fetchImage(`http://localhost:${port}/`, options(port, { signal: controller.signal }))).rejects.toThrow('gone');
  });

  test('an unknown host name', async () => {
    const url = 'http://nobody.invalid/a.png';
    await expect(fetchImage(url, options(80, { allowed: ['nobody.invalid'] }))).rejects.toMatchObject({ code: 'GRAFT_IMAGE_FETCH' });
  });
});
