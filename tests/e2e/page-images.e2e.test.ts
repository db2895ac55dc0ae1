/// <reference lib="dom" />
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type axe from 'axe-core';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { folderWithImages } from '../../packages/engine/src/engine.fixture.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const axeScript = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const picture = (name: string): string => fileURLToPath(new URL(`../fixtures/images/${name}.png`, import.meta.url));

let server: ServerProcess;
let browser: Browser;
let context: BrowserContext | undefined;

beforeAll(async () => {
  server = await startServer('--model', folderWithImages(), '--platform', 'cpu', '--served-model-name', 'vision-tiny', '--max-images', '2');
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--no-first-run'] });
});
afterEach(async () => {
  await context?.close();
  context = undefined;
});
afterAll(async () => {
  await browser?.close();
  expect(await server?.stop()).toBe(0);
});

/** A page of a new browser profile. Fails the test on any error in the page. */
async function visit(options: BrowserContextOptions = {}): Promise<Page> {
  context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  const page = await context.newPage();
  page.on('pageerror', (error) => expect.fail(`an error in the page: ${error.message}`));
  await page.addInitScript(() => {
    if (localStorage.length === 0) localStorage.setItem('graft.settings', JSON.stringify({ temperature: 0, maxTokens: 5 }));
  });
  await page.goto(server.url);
  await page.getByRole('button', { name: /vision-tiny/ }).waitFor();
  return page;
}

const attached = (page: Page) => page.locator('.attachments img');
const sent = (page: Page) => page.locator('.message.user img');
const choose = (page: Page, ...names: string[]) => page.locator('#attach-files').setInputFiles(names.map(picture));
const answered = (page: Page) => page.locator('.message.assistant .stats').last().waitFor();

/** The bodies of the chats that the page asks for. */
function watchChats(page: Page): { messages: { role: string; content: unknown }[] }[] {
  const bodies: { messages: { role: string; content: unknown }[] }[] = [];
  page.on('request', (request) => {
    if (request.url().endsWith('/v1/chat/completions')) bodies.push(request.postDataJSON());
  });
  return bodies;
}

test('an image is attached, sent with the text, answered, and there after a reload', async () => {
  const page = await visit();
  const chats = watchChats(page);
  const chooser = page.waitForEvent('filechooser');
  await page.getByRole('button', { name: 'Attach images' }).press('Enter');
  await (await chooser).setFiles(picture('200x90'));
  await attached(page).waitFor();
  await page.getByRole('textbox', { name: 'Message' }).fill('What is this?');
  await page.keyboard.press('Enter');
  await answered(page);
  expect(await page.getByRole('alert').filter({ visible: true }).count()).toBe(0);
  expect(await attached(page).count()).toBe(0);
  const url = `data:image/png;base64,${readFileSync(picture('200x90')).toString('base64')}`;
  const question = {
    role: 'user',
    content: [
      { type: 'image_url', image_url: { url } },
      { type: 'text', text: 'What is this?' },
    ],
  };
  expect(chats.map(({ messages }) => messages)).toEqual([[question]]);
  await page.reload();
  expect(await sent(page).getAttribute('alt')).toBe('200x90.png');
  expect(await sent(page).evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(200);
});

test('an image alone is a message; one is removed with the keyboard; more than the server takes are refused in words', async () => {
  const page = await visit();
  const chats = watchChats(page);
  const send = page.getByRole('button', { name: 'Send' });
  expect(await send.getAttribute('aria-disabled')).toBe('true');
  await choose(page, '40x30', '56x56', '1x1');
  await page.getByRole('alert').getByText('1x1.png is too many: a conversation has at most 2 images.').waitFor();
  expect(await attached(page).count()).toBe(2);
  expect(await send.getAttribute('aria-disabled')).toBe('false');
  await page.getByRole('button', { name: 'Remove 40x30.png' }).press('Enter');
  expect(await attached(page).getAttribute('alt')).toBe('56x56.png');
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('prompt');
  await page.keyboard.press('Enter');
  await answered(page);
  expect(chats[0]!.messages[0]!.content).toMatchObject([{ type: 'image_url' }]);
});

test('an image is pasted, and dropped; another file is refused in words', async () => {
  const page = await visit();
  const bytes = [...readFileSync(picture('40x30'))];
  const give = (type: 'paste' | 'drop', name: string, mediaType: string) =>
    page.evaluate(
      ([kind, fileName, fileType, content]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(content)], fileName, { type: fileType }));
        const target = document.getElementById('prompt')!;
        const options = { bubbles: true, cancelable: true };
        if (kind === 'paste') target.dispatchEvent(new ClipboardEvent('paste', { ...options, clipboardData: data }));
        else target.dispatchEvent(new DragEvent('drop', { ...options, dataTransfer: data }));
      },
      [type, name, mediaType, bytes] as const,
    );
  await give('paste', 'pasted.png', 'image/png');
  await page.getByRole('img', { name: 'pasted.png' }).waitFor();
  await give('drop', 'dropped.png', 'image/png');
  await page.getByRole('img', { name: 'dropped.png' }).waitFor();
  await give('drop', 'notes.txt', 'text/plain');
  await page.getByRole('alert').getByText('notes.txt is not a PNG, JPEG, WebP or GIF.').waitFor();
  expect(await attached(page).count()).toBe(2);
});

test('what the server would refuse in each further question is refused when it is attached', async () => {
  const page = await visit();
  await page.evaluate(
    async (half) => {
      const data = new DataTransfer();
      const add = (name: string, content: BlobPart) => data.items.add(new File([content], name, { type: 'image/png' }));
      const large = new OffscreenCanvas(8000, 6000);
      large.getContext('2d');
      add('half.png', Uint8Array.from(half));
      add('large.png', await large.convertToBlob());
      add('text.png', 'hello');
      document.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
    },
    [...readFileSync(picture('300x300')).subarray(0, 40)],
  );
  const said = page.getByRole('alert').getByText('text.png cannot be read.');
  await said.waitFor();
  expect(await said.textContent()).toBe(
    'half.png cannot be read. large.png has 48 megapixels; at most 40 are read. text.png cannot be read.',
  );
  expect(await attached(page).count()).toBe(0);
  await choose(page, '40x30');
  await attached(page).waitFor();
});

test('files that come while others are read count with them', async () => {
  const page = await visit();
  await page.evaluate(
    (content) => {
      for (const name of ['a.png', 'b.png', 'c.png']) {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(content)], name, { type: 'image/png' }));
        document.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
      }
    },
    [...readFileSync(picture('40x30'))],
  );
  await page.getByRole('alert').getByText('c.png is too many').waitFor();
  expect(await attached(page).count()).toBe(2);
});

test.each(['light', 'dark'] as const)('axe finds nothing serious with images attached and sent, in %s', async (colorScheme) => {
  const page = await visit({ colorScheme, bypassCSP: true, reducedMotion: 'reduce', viewport: { width: 360, height: 700 } });
  await choose(page, '300x300');
  await attached(page).waitFor();
  await page.getByRole('textbox', { name: 'Message' }).fill('What is this?');
  await page.keyboard.press('Enter');
  await answered(page);
  await choose(page, '200x90', '1x1');
  await page.getByRole('alert').getByText('too many').waitFor();
  await page.addScriptTag({ path: axeScript });
  const { violations } = await page.evaluate(() => (window as unknown as { axe: typeof axe }).axe.run());
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`)).toEqual([]);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
});
