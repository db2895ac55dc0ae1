/// <reference lib="dom" />
import { createRequire } from 'node:module';
import type axe from 'axe-core';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const axeScript = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const quiet = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let server: ServerProcess;
let browser: Browser;
let context: BrowserContext | undefined;

beforeAll(async () => {
  server = await startServer();
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', ...quiet] });
});
afterEach(async () => {
  await context?.close();
  context = undefined;
});
afterAll(async () => {
  await browser?.close();
  expect(await server?.stop()).toBe(0);
});

interface Visit extends BrowserContextOptions {
  /** What an earlier visit left in the browser. */
  conversation?: { role: 'user' | 'assistant'; content: string }[];
}

/** A page of a new browser profile, at temperature 0 and with answers of 300 tokens at most. Fails the test on any error in the page's console. */
async function visit({ conversation = [], ...options }: Visit = {}): Promise<Page> {
  context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  const page = await context.newPage();
  page.on('pageerror', (error) => expect.fail(`an error in the page: ${error.message}`));
  const state = { settings: { temperature: 0, maxTokens: 300 }, conversation };
  await page.addInitScript((kept) => {
    if (localStorage.length > 0) return;
    for (const [key, value] of Object.entries(kept)) localStorage.setItem(`graft.${key}`, JSON.stringify(value));
  }, state);
  await page.goto(server.url);
  await page.getByRole('button', { name: /SmolLM2/ }).waitFor();
  return page;
}

const prompt = (page: Page) => page.getByRole('textbox', { name: 'Message' });
const answers = (page: Page) => page.locator('.message.assistant .content');
const stopButton = (page: Page) => page.getByRole('button', { name: 'Stop answering' });

async function ask(page: Page, text: string): Promise<void> {
  await prompt(page).fill(text);
  await prompt(page).press('Enter');
}

async function answered(page: Page): Promise<string> {
  await page
    .locator('.message.assistant')
    .last()
    .getByText(/tokens?\/s|\d tokens?/)
    .waitFor();
  await stopButton(page).waitFor({ state: 'hidden' });
  return answers(page).last().innerText();
}

/** The lengths that the last answer's text has had. */
async function watchGrowth(page: Page): Promise<() => Promise<number[]>> {
  await page.evaluate(() => {
    const lengths: number[] = [];
    Object.assign(window, { lengths });
    new MutationObserver(() => {
      const length = [...document.querySelectorAll('.message.assistant .content')].at(-1)?.textContent?.length ?? 0;
      if (length > 0 && length !== lengths.at(-1)) lengths.push(length);
    }).observe(document.getElementById('messages')!, { subtree: true, childList: true, characterData: true });
  });
  return () => page.evaluate(() => (window as unknown as { lengths: number[] }).lengths);
}

test('a question is answered; a model that reads no images is offered none', async () => {
  const page = await visit();
  expect(await page.getByRole('button', { name: 'Attach images' }).count()).toBe(0);
  await ask(page, 'What is the capital of France?');
  expect(await answered(page)).toContain('Paris');
  expect(await page.locator('.stats').innerText()).toMatch(/^\d+ tokens · [\d.]+ tokens\/s · first after [\d.]+ m?s$/);
  expect(await page.locator('#status').innerText()).toContain('Answer:');
});

test('an answer is seen to stream: it only grows, piece by piece', async () => {
  const page = await visit();
  const lengths = await watchGrowth(page);
  await ask(page, 'Write a long story about a dragon who learns to paint, in many chapters.');
  await vi.waitFor(async () => expect((await lengths()).length).toBeGreaterThan(5), { timeout: 60_000 });
  await stopButton(page).click();
  await page.locator('.stats').getByText('stopped').waitFor();
  const seen = await lengths();
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

test.each([
  ['the Stop button', (page: Page) => stopButton(page).click()],
  ['the Escape key', (page: Page) => page.keyboard.press('Escape')],
])('a long answer is stopped with %s, its slot is freed, and the next question is answered', async (_, stop) => {
  const page = await visit();
  await ask(page, 'Write a long story about a dragon who learns to paint, in many chapters.');
  await vi.waitFor(async () => expect((await answers(page).innerText()).length).toBeGreaterThan(40), { timeout: 60_000 });
  await stop(page);
  await page.locator('.stats').getByText('stopped').waitFor();
  await vi.waitFor(async () => expect((await server.health()).stats).toMatchObject({ running: 0, waiting: 0 }), { timeout: 5000 });
  const text = await answers(page).innerText();
  await ask(page, 'What is the capital of France?');
  expect((await answered(page)).length).toBeGreaterThan(0);
  expect(await answers(page).first().innerText()).toBe(text);
});

test('a conversation outlives a reload; a message is edited; an answer is made anew; a new chat is empty', async () => {
  const page = await visit();
  await ask(page, 'What is the capital of Italy?');
  const first = await answered(page);
  await page.reload();
  expect(await answers(page).innerText()).toBe(first);
  await page.getByRole('button', { name: 'Regenerate' }).click();
  expect(await answered(page)).toBe(first);
  await page.locator('.message.user').hover();
  await page.getByRole('button', { name: 'Edit' }).click();
  await page.getByRole('textbox', { name: 'Edit your message' }).fill('What is the capital of France?');
  await page.keyboard.press('Enter');
  await vi.waitFor(async () => expect(await page.locator('.message.user .content').innerText()).toContain('France'));
  expect(await answered(page)).toContain('Paris');
  expect(await answers(page).count()).toBe(1);
  await page.getByRole('button', { name: 'New chat' }).click();
  expect(await answers(page).count()).toBe(0);
  await page.getByRole('heading', { name: 'What would you like to know?' }).waitFor();
});

test('the panel tells the class that serves the model, the candidates and the times', async () => {
  const page = await visit();
  await page.getByRole('button', { name: /which class serves this model/ }).click();
  const panel = page.getByRole('dialog', { name: 'Model' });
  const { engine } = await server.health();
  await panel.getByText(`is served by ${engine.modelClass} on ${engine.platform}`).waitFor();
  const text = await panel.innerText();
  expect(text).toContain('selected');
  expect(text).toMatch(/compile\s+[\d.]+ m?s/);
  await page.keyboard.press('Escape');
  await panel.waitFor({ state: 'hidden' });
});

test('a failure is said in words, and Retry works once the server is back', async () => {
  const page = await visit();
  await page.route('**/v1/chat/completions', (route) => route.abort());
  await ask(page, 'What is the capital of France?');
  await page.getByRole('alert').getByText('The server does not answer.').waitFor();
  await page.unroute('**/v1/chat/completions');
  await page.getByRole('button', { name: 'Retry' }).click();
  expect(await answered(page)).toContain('Paris');
});

const attack = [
  '<script>window.hacked = 1</script><img src="/x" onerror="window.hacked = 2"><svg onload="window.hacked = 3"></svg>',
  '[run](javascript:window.hacked=4) [data](data:text/html,<script>window.hacked=5</script>) ![pixel](https://elsewhere.example/pixel.png)',
  '<a href="javascript:window.hacked=6" onclick="window.hacked=7">click</a> <iframe src="javascript:window.hacked=8"></iframe>',
  '```html" onmouseover="window.hacked=9\n<script>window.hacked = 10</script>\n```',
  '| <img src=x onerror=window.hacked=11> | `<b>` |\n|---|---|\n| <style>body{display:none}</style> | [a]( "onmouseover=window.hacked=12) |',
].join('\n\n');

test('an attack in Markdown is inert, as it streams and when it is kept', async () => {
  const page = await visit();
  const elsewhere: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) elsewhere.push(request.url());
  });
  const chunks = attack.match(/[\s\S]{1,7}/g)!.map((content) => ({ choices: [{ delta: { content }, finish_reason: null }] }));
  const body = [...chunks, { choices: [], usage: { completion_tokens: 9 } }].map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('');
  await page.route('**/v1/chat/completions', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: `${body}data: [DONE]\n\n` }),
  );
  const inspect = () =>
    page.evaluate(() => {
      const content = [...document.querySelectorAll('.message.assistant .content')].at(-1)!;
      return {
        hacked: (window as unknown as { hacked?: number }).hacked,
        elements: content.querySelectorAll('script, img, iframe, style, object, embed, form, input').length,
        handlers: [...content.querySelectorAll('*')].flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith('on')),
        links: [...content.querySelectorAll('a')].map((link) => link.protocol),
        text: content.textContent ?? '',
      };
    });
  await ask(page, 'Attack me.');
  await answered(page);
  for (const link of await answers(page).last().locator('a').all()) expect(await link.getAttribute('rel')).toContain('noopener');
  await answers(page).last().locator('pre').hover();
  const inert = { hacked: undefined, elements: 0, handlers: [], links: ['https:'] };
  expect(await inspect()).toMatchObject({ ...inert, text: expect.stringContaining('<script>window.hacked = 1</script>') });
  await page.reload();
  expect(await inspect()).toMatchObject(inert);
  expect(elsewhere).toEqual([]);
});

const rich = [
  { role: 'user' as const, content: `A long line without a space: ${'x'.repeat(300)}` },
  {
    role: 'assistant' as const,
    content: [
      '# A heading',
      `Some **bold**, \`code\` and ${'a'.repeat(200)}.`,
      '- [x] one\n- [ ] two',
      '> A quote with [a link](https://example.org).',
      `\`\`\`js\nconst line = "${'y'.repeat(200)}";\n\`\`\``,
      '| one | two | three | four |\n|---|---|---|---|\n| a long cell of text | another long cell | and one more of these | last |',
    ].join('\n\n'),
  },
];

async function seriousViolations(page: Page): Promise<string[]> {
  await page.addScriptTag({ path: axeScript });
  const { violations } = await page.evaluate(() => (window as unknown as { axe: typeof axe }).axe.run());
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`);
}

describe.each(['light', 'dark'] as const)('in %s', (colorScheme) => {
  test('axe finds nothing serious in the page and its dialogs', async () => {
    // axe is put into the page as a script, which the page's own policy would not allow.
    const page = await visit({ colorScheme, bypassCSP: true, conversation: rich, reducedMotion: 'reduce' });
    expect(await seriousViolations(page)).toEqual([]);
    for (const name of [/which class serves/, 'Settings']) {
      await page.getByRole('button', { name }).click();
      await page.getByRole('dialog').waitFor();
      expect(await seriousViolations(page)).toEqual([]);
      await page.keyboard.press('Escape');
    }
    await page.getByRole('button', { name: 'New chat' }).click();
    expect(await seriousViolations(page)).toEqual([]);
  });

  test('nothing is wider than a phone of 360 pixels', async () => {
    const page = await visit({ colorScheme, viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true, conversation: rich });
    const widths = () => page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth, document.body.scrollWidth]);
    expect(Math.max(...(await widths()))).toBe(360);
    await page.getByRole('button', { name: 'Settings' }).click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.evaluate((one) => one.scrollWidth - one.clientWidth)).toBe(0);
    expect(Math.max(...(await widths()))).toBe(360);
  });
});

test('the colours follow the button, and stay after a reload', async () => {
  const page = await visit({ colorScheme: 'light' });
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await background();
  const button = page.getByRole('button', { name: /^Colours/ });
  await button.click();
  expect(await background()).toBe(light);
  await button.click();
  const dark = await background();
  expect(dark).not.toBe(light);
  await page.reload();
  expect(await background()).toBe(dark);
});
