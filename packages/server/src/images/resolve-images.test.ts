import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ImageLimits } from '@graft/engine';
import { expect, onTestFinished, test } from 'vitest';
import { scriptedEngine } from '../../test/scripted-engine.ts';
import { type AppOptions, createApp } from '../app.ts';

const bytes = Uint8Array.of(0x89, 0x50, 0x4e, 0x47);
const dataUrl = `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`;
const imagePart = (url: string, more: object = {}) => ({ type: 'image_url', image_url: { url, ...more } });

/** An application over an engine that reads images, of at most 2 with 1000 bytes each. */
function start(options: AppOptions = {}, info: object = { readsImages: true }) {
  const engine = scriptedEngine({ info: { imageLimits: ImageLimits.parse({ maxImages: 2, maxImageBytes: 1000 }), ...info } });
  const app = createApp(engine, options);
  onTestFinished(() => app.close());
  const ask = async (...content: object[]) => {
    const response = await app.inject({ method: 'POST', url: '/v1/chat/completions', payload: { messages: [{ role: 'user', content }] } });
    return { status: response.statusCode, body: response.json(), seen: engine.seen };
  };
  return { engine, app, ask };
}

const hello = { type: 'text', text: 'hello' };

test('image parts reach the engine as bytes, between the texts', async () => {
  const { ask, engine } = start();
  const { status } = await ask(hello, imagePart(dataUrl, { detail: 'low' }), { type: 'text', text: 'world' });
  expect(status).toBe(200);
  const content = [hello, { type: 'image', data: bytes }, { type: 'text', text: 'world' }];
  expect(engine.seen[0]!.prompt).toEqual({ messages: [{ role: 'user', content }] });
});

test('texts alone stay one text', async () => {
  const { ask, engine } = start();
  await ask(hello, hello);
  expect(engine.seen[0]!.prompt).toEqual({ messages: [{ role: 'user', content: 'hellohello' }] });
});

test.each<[string, object[], number, string, string]>([
  ['no data: URL', [imagePart('nonsense')], 400, 'invalid_image_url', 'messages[0].content[0].image_url'],
  ['another type of file', [hello, imagePart('data:text/html;base64,AAAA')], 400, 'invalid_image', 'messages[0].content[1].image_url'],
  [
    'a file that is too large',
    [imagePart(`data:image/png;base64,${'A'.repeat(1400)}`)],
    413,
    'image_too_large',
    'messages[0].content[0].image_url',
  ],
  ['too many images', [imagePart(dataUrl), imagePart(dataUrl), imagePart(dataUrl)], 400, 'too_many_images', 'messages'],
  ['a remote URL', [imagePart('https://example.com/a.png')], 400, 'image_url_not_allowed', 'messages[0].content[0].image_url'],
  ['a part without a URL', [{ type: 'image_url' }], 400, 'invalid_value', 'messages[0].content[0].image_url'],
  ['a part of sound', [{ type: 'input_audio' }], 400, 'unsupported_value', 'messages[0].content[0].type'],
])('is answered with an error that names it: %s', async (_, parts, expected, code, param) => {
  const { ask } = start();
  const { status, body, seen } = await ask(...parts);
  expect([status, body.error.code, body.error.param]).toEqual([expected, code, param]);
  expect(seen).toEqual([]);
});

test('images count once for each choice', async () => {
  const { app } = start();
  const ask = (n: number) => ({ messages: [{ role: 'user', content: [imagePart(dataUrl)] }], n });
  const statuses = [1, 2, 3].map(
    async (n) => (await app.inject({ method: 'POST', url: '/v1/chat/completions', payload: ask(n) })).statusCode,
  );
  expect(await Promise.all(statuses)).toEqual([200, 200, 400]);
});

test('the refusal of a remote URL says how to turn it on', async () => {
  const { body } = await start().ask(imagePart('https://example.com/a.png'));
  expect(body.error.message).toContain('--allow-image-host example.com');
});

test('a model that reads only text says so, and no image is fetched for it', async () => {
  const { status, body } = await start({}, { readsImages: false }).ask(imagePart('https://example.com/a.png'));
  expect([status, body.error.code]).toEqual([400, 'unsupported_value']);
  expect(body.error.message).toContain('scripted reads no images');
});

test('an image is fetched from a host that is allowed', async () => {
  const images = createServer((_, response) => response.writeHead(200, { 'content-type': 'image/png' }).end(bytes));
  await new Promise<void>((resolve) => images.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void images.close());
  const host = `127.0.0.1:${(images.address() as AddressInfo).port}`;
  const allowed = start({ imageHosts: { allowed: [host], allowPrivate: true } });
  expect((await allowed.ask(imagePart(`http://${host}/a.png`))).status).toBe(200);
  expect(allowed.engine.seen[0]!.prompt).toMatchObject({ messages: [{ content: [{ type: 'image', data: bytes }] }] });
  const { status, body } = await start({ imageHosts: { allowed: [host], allowPrivate: false } }).ask(imagePart(`http://${host}/a.png`));
  expect([status, body.error.code]).toEqual([400, 'image_url_not_allowed']);
});

test('a body may be as large as the images that the limits allow, only where images are read', async () => {
  const large = { bodyLimitBytes: 1000 };
  const full = imagePart(`data:image/png;base64,${Buffer.alloc(1000).toString('base64')}`);
  expect((await start(large).ask(full, full)).status).toBe(200);
  expect((await start(large, { readsImages: false }).ask(full, full)).status).toBe(413);
});
