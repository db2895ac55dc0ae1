// One message of the conversation as an element.
import { thumbnails } from '/attachments.js';
import { copyButton, el, icon, icons } from '/dom.js';
import { renderMarkdown } from '/markdown.js';

/** The reader's text and images. `onEdit(text)` sends a changed version, with the same images, and drops the messages after it. */
export function userMessage(message, { announce, onEdit }) {
  const content = el('div.content', { hidden: message.content === '' }, message.content);
  const images = message.images?.length > 0 ? thumbnails(message.images) : null;
  const edit = el('button.text-button', { type: 'button' }, icon(icons.edit), 'Edit');
  const actions = el(
    'div.actions',
    {},
    edit,
    copyButton('Copy', () => message.content, announce),
  );
  const article = el('article.message.user', {}, el('h2.sr-only', {}, 'You'), images, content, el('div.meta', {}, actions));
  edit.addEventListener('click', () => {
    const form = editForm(message.content, (text) => {
      form.replaceWith(content);
      article.querySelector('.meta').hidden = false;
      if (text === null) edit.focus();
      else onEdit(text);
    });
    content.replaceWith(form);
    article.querySelector('.meta').hidden = true;
    form.querySelector('textarea').focus();
  });
  return article;
}

/** `done(text)`, or `done(null)` when the reader cancels. */
function editForm(text, done) {
  const area = el('textarea', { 'aria-label': 'Edit your message', rows: '2' });
  area.value = text;
  const form = el(
    'form.edit',
    {
      onsubmit: (event) => {
        event.preventDefault();
        if (area.value.trim() !== '') done(area.value.trim());
      },
      onkeydown: (event) => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          done(null);
        }
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          form.requestSubmit();
        }
      },
    },
    area,
    el(
      'div.row',
      {},
      el('button.button', { type: 'button', onclick: () => done(null) }, 'Cancel'),
      el('button.button.primary', { type: 'submit' }, 'Send'),
    ),
  );
  return form;
}

/** The model's answer. `update` makes it grow; `finish` or `fail` ends it. */
export function assistantMessage({ announce, onRegenerate, onRetry, onSettings }) {
  const content = el('div.content', {}, waiting());
  const meta = el('div.meta', { hidden: true });
  const article = el('article.message.assistant.streaming', { 'aria-busy': 'true' }, el('h2.sr-only', {}, 'Answer'), content, meta);
  let shown = '';

  const settle = () => {
    article.classList.remove('streaming');
    article.removeAttribute('aria-busy');
    content.querySelector('.waiting')?.remove();
  };
  return {
    element: article,
    update(text) {
      if (text === shown) return;
      shown = text;
      content.querySelector('.waiting')?.remove();
      renderMarkdown(content, text, announce);
    },
    finish(message) {
      this.update(message.content);
      settle();
      const again = el('button.text-button', { type: 'button', onclick: onRegenerate }, icon(icons.again), 'Regenerate');
      again.classList.add('regenerate');
      const copy = message.content === '' ? null : copyButton('Copy', () => message.content, announce);
      meta.replaceChildren(el('div.actions', {}, copy, again), el('span.stats', {}, statsText(message)));
      meta.hidden = false;
    },
    fail(failure) {
      settle();
      const retry = failure.retry ? el('button.button', { type: 'button', onclick: onRetry }, 'Retry') : null;
      const settings =
        failure.code === 'invalid_api_key' ? el('button.button', { type: 'button', onclick: onSettings }, 'Open settings') : null;
      article.append(
        el('div.failure', { role: 'alert' }, el('p', {}, el('strong', {}, failure.title), ' ', failure.message), settings, retry),
      );
    },
  };
}

function waiting() {
  return el('span.waiting', { role: 'img', 'aria-label': 'Thinking' }, el('i'), el('i'), el('i'));
}

/** `42 tokens · 35.2 tokens/s · first after 180 ms · stopped`. */
function statsText({ stats, stopped, finishReason }) {
  const parts = [];
  if (stats) {
    parts.push(`${stats.isEstimate ? '~' : ''}${stats.tokens} token${stats.tokens === 1 ? '' : 's'}`);
    if (stats.tokensPerSecond) parts.push(`${stats.tokensPerSecond.toFixed(1)} tokens/s`);
    if (stats.firstTokenMs !== null) parts.push(`first after ${duration(stats.firstTokenMs)}`);
  }
  if (stopped) parts.push('stopped');
  else if (finishReason === 'length') parts.push('cut at the longest answer');
  return parts.join(' · ');
}

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
