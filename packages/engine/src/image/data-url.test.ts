import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseImageDataUrl } from './data-url.ts';

const limit = { maxBytes: 1000 };

test('the bytes and the media type come out as they went in', () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(bytes, (given) => {
      const url = `data:image/PNG;base64,${Buffer.from(given).toString('base64')}`;
      expect(parseImageDataUrl(url, limit)).toEqual({ mediaType: 'image/png', bytes: given });
    }),
  );
});

test.each([
  ['an empty text', '', 'GRAFT_IMAGE_URL'],
  ['a remote URL', 'https://example.com/a.png', 'GRAFT_IMAGE_URL'],
  ['a file URL', 'file:///etc/passwd', 'GRAFT_IMAGE_URL'],
  ['no comma', 'data:image/png;base64', 'GRAFT_IMAGE_URL'],
  ['a comma far away', `data:${'a'.repeat(200)}/png;base64,AAAA`, 'GRAFT_IMAGE_URL'],
  ['no media type', 'data:;base64,AAAA', 'GRAFT_IMAGE_URL'],
  ['no base64', 'data:image/png,AAAA', 'GRAFT_IMAGE_URL'],
  ['another parameter', 'data:image/png;charset=utf-8;base64,AAAA', 'GRAFT_IMAGE_URL'],
  ['white space before', ' data:image/png;base64,AAAA', 'GRAFT_IMAGE_URL'],
  ['no bytes', 'data:image/png;base64,', 'GRAFT_IMAGE_URL'],
  ['base64 that is cut off', 'data:image/png;base64,AAAAA', 'GRAFT_IMAGE_URL'],
  ['base64 without padding', 'data:image/png;base64,AAA', 'GRAFT_IMAGE_URL'],
  ['padding in the middle', 'data:image/png;base64,AA==AAAA', 'GRAFT_IMAGE_URL'],
  ['padding alone', 'data:image/png;base64,====', 'GRAFT_IMAGE_URL'],
  ['the URL alphabet', 'data:image/png;base64,AA-_', 'GRAFT_IMAGE_URL'],
  ['a line break', 'data:image/png;base64,AAA\n', 'GRAFT_IMAGE_URL'],
  ['text', 'data:text/html;base64,AAAA', 'GRAFT_IMAGE_TYPE'],
  ['SVG', 'data:image/svg+xml;base64,AAAA', 'GRAFT_IMAGE_TYPE'],
  ['a byte too many', `data:image/png;base64,${Buffer.alloc(1001).toString('base64')}`, 'GRAFT_IMAGE_BYTES'],
])('%s is refused', (_, url, code) => {
  expect(() => parseImageDataUrl(url, limit)).toThrowError(expect.objectContaining({ code }));
});

test('image/jpg, which is no media type but is often sent, is taken', () => {
  expect(parseImageDataUrl('data:image/jpg;base64,AAAA', limit).bytes).toHaveLength(3);
});

test('exactly as many bytes as the limit are taken', () => {
  const url = `data:image/webp;base64,${Buffer.alloc(1000).toString('base64')}`;
  expect(parseImageDataUrl(url, limit).bytes).toHaveLength(1000);
});

test('the stray character is named with its place', () => {
  expect(() => parseImageDataUrl('data:image/png;base64,AA*A', limit)).toThrowError('"*" at character 2');
});
