// Data kept between visits, in this browser only. Storage may be full or forbidden; the page works without it.

export const defaults = { temperature: 0.7, maxTokens: null, seed: null, system: '', apiKey: '' };

export function load(key, fallback) {
  try {
    const text = localStorage.getItem(`graft.${key}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

export function save(key, value) {
  try {
    localStorage.setItem(`graft.${key}`, JSON.stringify(value));
    return true;
  } catch {
    return false; // nothing depends on it before the next visit
  }
}

export function loadSettings() {
  const kept = load('settings', {});
  return { ...defaults, ...(typeof kept === 'object' ? kept : {}) };
}

/** A conversation. Its images are left out if they are too large for the browser's storage. */
export function saveConversation(messages) {
  if (save('conversation', messages)) return;
  save(
    'conversation',
    messages.map(({ images: _, ...message }) => message),
  );
}

/** The stored messages. Anything that does not look like a message is dropped. */
export function loadMessages() {
  const kept = load('conversation', []);
  if (!Array.isArray(kept)) return [];
  return kept
    .filter((one) => (one?.role === 'user' || one?.role === 'assistant') && typeof one.content === 'string')
    .map((one) => (one.images === undefined ? one : { ...one, images: imagesOf(one.images) }));
}

function imagesOf(kept) {
  if (!Array.isArray(kept)) return [];
  return kept.filter((one) => typeof one?.name === 'string' && typeof one.url === 'string' && one.url.startsWith('data:image/'));
}
