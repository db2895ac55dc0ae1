// The chat page: the conversation, its requests and its answers.
import { Failure, getHealth, streamAnswer } from '/api.js';
import { attachments } from '/attachments.js';
import { autoscroll } from '/autoscroll.js';
import { byId } from '/dom.js';
import { assistantMessage, userMessage } from '/messages.js';
import { showPanel } from '/panel.js';
import { settingsDialog, themeToggle } from '/settings.js';
import { loadMessages, saveConversation } from '/storage.js';

const prompt = byId('prompt');
const list = byId('messages');
const scroll = autoscroll(byId('to-latest'));

/** The conversation: `{ role, content }`, on questions `images: [{ name, url }]` too, and on answers `stats`, `stopped`, `finishReason`. */
let messages = loadMessages();
let model = null;
/** The limits of an image, or null if the model reads none. */
let imageLimits = null;
/** The AbortController of the running answer, or null. */
let running = null;

const announce = (text) => {
  byId('status').textContent = text;
};
const attached = attachments({
  composer: byId('composer'),
  prompt,
  announce,
  limits: () => imageLimits,
  room: () => imageLimits.maxImages - messages.reduce((sum, { images = [] }) => sum + images.length, 0),
  onChange: () => update(),
});
const settings = settingsDialog(() => void refreshHealth());

function show() {
  list.replaceChildren(
    ...messages.map((message, index) => (message.role === 'user' ? userElement(message, index) : answerElement(message))),
  );
  // The last visit ended before the answer came. The question can be asked again.
  if (messages.at(-1)?.role === 'user') {
    const view = newAnswer();
    view.fail(new Failure('This question has no answer.', 'The page was closed before the answer came.'));
    list.append(view.element);
  }
  update();
}

function userElement(message, index) {
  return userMessage(message, {
    announce,
    onEdit: (text) => {
      stop();
      messages = messages.slice(0, index);
      send(text, message.images);
    },
  });
}

function answerElement(message) {
  const view = newAnswer();
  view.finish(message);
  return view.element;
}

function newAnswer() {
  const again = () => {
    stop();
    while (messages.at(-1)?.role === 'assistant') messages.pop();
    show();
    list.querySelector('.failure')?.closest('.message').remove();
    void answer();
  };
  return assistantMessage({ announce, onRegenerate: again, onRetry: again, onSettings: () => byId('settings').showModal() });
}

/** Updates the parts that depend on the state: the welcome, the buttons, and "again" on the last answer alone. */
function update() {
  byId('welcome').hidden = messages.length > 0;
  byId('stop').hidden = running === null;
  byId('send').hidden = running !== null;
  byId('send').setAttribute('aria-disabled', String(isEmpty()));
  const buttons = [...list.querySelectorAll('.regenerate')];
  for (const button of buttons) button.hidden = running !== null || button.closest('.message') !== list.lastElementChild;
  fit();
}

function isEmpty() {
  return prompt.value.trim() === '' && attached.count === 0;
}

function fit() {
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight}px`;
}

function send(text, images = []) {
  messages.push({ role: 'user', content: text, ...(images.length > 0 && { images }) });
  saveConversation(messages);
  show();
  list.lastElementChild.remove();
  void answer();
}

/** Asks for the next answer of the conversation, and shows it as it comes. */
async function answer() {
  const controller = new AbortController();
  running = controller;
  const conversation = messages;
  const view = newAnswer();
  list.append(view.element);
  update();
  scroll.follow();
  announce('Answering.');
  const message = { role: 'assistant', content: '' };
  const painter = paint(() => {
    view.update(message.content);
    scroll.grown();
  });
  let failure = null;
  try {
    await receive(message, conversation, controller.signal, painter);
  } catch (error) {
    if (controller.signal.aborted) message.stopped = true;
    else failure = error instanceof Failure ? error : new Failure('Something went wrong in the page.', String(error?.message ?? error));
  }
  painter.end();
  if (running === controller) running = null;
  // After an edit or a new chat, the conversation of this answer no longer exists.
  if (conversation !== messages) return;
  conclude(message, view, failure);
}

function conclude(message, view, failure) {
  if (message.content !== '' || failure === null) messages.push(message);
  saveConversation(messages);
  if (failure === null) {
    view.finish(message);
    announce(message.stopped ? 'Stopped.' : `Answer: ${message.content}`);
  } else {
    view.update(message.content);
    view.fail(failure);
  }
  update();
  scroll.grown();
  if (failure?.code === 'unreachable' || failure?.code === 'cut_off') void refreshHealth();
}

async function receive(message, conversation, signal, painter) {
  const startedAt = performance.now();
  let firstAt = null;
  let pieces = 0;
  const system = settings.system.trim() === '' ? [] : [{ role: 'system', content: settings.system }];
  const sent = [...system, ...conversation.map(toSend)];
  const measure = (tokens, isEstimate) => {
    const seconds = (performance.now() - (firstAt ?? startedAt)) / 1000;
    message.stats = {
      tokens,
      isEstimate,
      firstTokenMs: firstAt === null ? null : firstAt - startedAt,
      tokensPerSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null,
    };
  };
  for await (const piece of streamAnswer({ messages: sent, settings, model, signal })) {
    if (piece.text !== undefined) {
      firstAt ??= performance.now();
      message.content += piece.text;
      measure(++pieces, true);
      painter.request();
    }
    if (piece.usage) {
      measure(piece.usage.completion_tokens, false);
      message.finishReason = piece.finishReason;
    }
  }
}

/** A message as the API takes it: with images, a list of parts. */
function toSend({ role, content, images = [] }) {
  if (images.length === 0) return { role, content };
  const parts = images.map(({ url }) => ({ type: 'image_url', image_url: { url } }));
  return { role, content: content === '' ? parts : [...parts, { type: 'text', text: content }] };
}

/** Paints at most once a frame, and less often when painting is slow: it takes at most a third of the time. */
function paint(draw) {
  let frame = 0;
  let notBefore = 0;
  const tick = () => {
    frame = 0;
    const now = performance.now();
    if (now < notBefore) return request();
    draw();
    notBefore = now + 2 * (performance.now() - now);
    return undefined;
  };
  const request = () => {
    if (frame === 0) frame = requestAnimationFrame(tick);
  };
  return { request, end: () => cancelAnimationFrame(frame) };
}

function stop() {
  running?.abort();
}

function newChat() {
  stop();
  running = null;
  messages = [];
  saveConversation(messages);
  show();
  prompt.focus();
  announce('New chat.');
}

async function refreshHealth() {
  const state = await getHealth(settings).then(
    (health) => ({ health, failure: null }),
    (failure) => ({ health: null, failure }),
  );
  const { engine } = state.health ?? {};
  model = engine?.model ?? null;
  imageLimits = engine?.readsImages ? engine.imageLimits : null;
  attached.update();
  byId('model-name').textContent =
    engine?.model ?? (state.health === null ? 'no server' : state.health.status === 'ok' ? 'key needed' : 'model stopped');
  byId('state-dot').className = `dot ${state.health?.status === 'ok' ? 'ok' : 'bad'}`;
  byId('emulated-badge').hidden = engine?.device !== 'emulated';
  document.title = engine ? `${engine.model} · Graft` : 'Graft chat';
  if (byId('panel').open) showPanel(state);
  return state;
}

function wire() {
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    if (isEmpty() || running !== null) return;
    const text = prompt.value.trim();
    prompt.value = '';
    send(text, attached.take());
    prompt.focus();
  });
  prompt.addEventListener('input', update);
  prompt.addEventListener('keydown', (event) => {
    // While an input method composes text, Enter chooses a character.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId('composer').requestSubmit();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && running !== null && document.querySelector('dialog[open]') === null) stop();
  });
  byId('stop').addEventListener('click', () => {
    stop();
    prompt.focus();
  });
  byId('new-chat').addEventListener('click', newChat);
  byId('suggestions').addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (button === null || running !== null) return;
    send(button.textContent);
    prompt.focus();
  });
  wireDialogs();
  themeToggle(byId('toggle-theme'), announce);
  window.addEventListener('resize', fit);
}

function wireDialogs() {
  byId('open-settings').addEventListener('click', () => byId('settings').showModal());
  byId('open-panel').addEventListener('click', async () => {
    byId('panel').showModal();
    showPanel(await refreshHealth());
  });
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog || event.target.closest('[data-close]')) dialog.close();
    });
  }
}

/** Tells where the reader's text goes. That depends on the machine that serves the page. */
function welcomeText() {
  const { hostname } = window.location;
  const isLocal = hostname === 'localhost' || hostname.endsWith('.localhost') || hostname.startsWith('127.') || hostname === '[::1]';
  return isLocal
    ? 'The model runs on this machine. Your text does not leave it.'
    : `The model runs on ${hostname}. Your text goes there and nowhere else.`;
}

byId('welcome-text').textContent = welcomeText();
wire();
show();
scroll.follow();
void refreshHealth();
setInterval(() => document.visibilityState === 'visible' && running === null && void refreshHealth(), 15_000);
if (window.matchMedia('(pointer: fine)').matches) prompt.focus();
