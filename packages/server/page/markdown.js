// A model's Markdown as elements. HTML in it is shown as text, and the output of marked is sanitised as well.

import { copyButton, el } from '/dom.js';
import DOMPurify from '/vendor/dompurify.js';
import { Marked } from '/vendor/marked.js';

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text) => text.replace(/[&<>"']/g, (one) => escapes[one]);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escapeHtml(text),
    // The page loads nothing from elsewhere, so an image becomes a link to it.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    // The page's own headings are h1 and h2.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

const allowed = {
  ALLOWED_TAGS: 'p br strong em del a code pre blockquote ul ol li h3 h4 h5 h6 hr table thead tbody tr th td'.split(' '),
  ALLOWED_ATTR: ['href', 'title', 'start', 'class'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/**
 * Shows Markdown in `target`, again each time it grows. Only changed blocks are made again, so a selection or a focused button
 * in an earlier block stays.
 */
export function renderMarkdown(target, text, announce) {
  const tokens = marked.lexer(text).filter((token) => token.type !== 'space');
  const blocks = [...target.children];
  tokens.forEach((token, index) => {
    const old = blocks[index];
    if (old?.raw === token.raw) return;
    const block = el('div.block', {}, DOMPurify.sanitize(marked.parser([token]), allowed));
    block.raw = token.raw;
    furnish(block, announce);
    if (old === undefined) target.append(block);
    else old.replaceWith(block);
  });
  for (const extra of blocks.slice(tokens.length)) extra.remove();
}

/** Links open in a new tab, code gets its language and a copy button, and a wide table scrolls on its own. */
function furnish(block, announce) {
  for (const link of block.querySelectorAll('a')) {
    // A forbidden address was removed; its text stays.
    if (!link.hasAttribute('href')) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const code of block.querySelectorAll('pre > code')) {
    const language = /(?:^|\s)language-([\w+#.-]{1,20})/.exec(code.className)?.[1] ?? '';
    code.removeAttribute('class');
    const pre = code.parentElement;
    const name = language === '' ? 'Code' : `Code, ${language}`;
    const figure = el(
      'figure.code',
      {},
      el(
        'figcaption',
        {},
        el('span', {}, language || 'code'),
        copyButton('Copy', () => code.textContent, announce),
      ),
    );
    pre.replaceWith(figure);
    pre.tabIndex = 0;
    pre.setAttribute('role', 'region');
    pre.setAttribute('aria-label', name);
    figure.append(pre);
  }
  for (const table of block.querySelectorAll('table')) {
    const frame = el('div.table', { tabindex: '0', role: 'region', 'aria-label': 'Table' });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const other of block.querySelectorAll('[class]:not(.code, .table, .text-button)')) other.removeAttribute('class');
}
