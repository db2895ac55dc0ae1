// Keeps the newest text in view while the reader is at the end, and lets go as soon as they scroll away.

const nearPx = 60;

export function autoscroll(button) {
  let isFollowing = true;
  const distance = () => document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
  const toEnd = () => window.scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' });
  const update = () => {
    button.hidden = isFollowing || distance() < nearPx;
  };
  // Growth of the page makes no scroll event; so what is seen here is the reader's doing, or our own way to the end.
  window.addEventListener(
    'scroll',
    () => {
      isFollowing = distance() < nearPx;
      update();
    },
    { passive: true },
  );
  // At the first sign of the reader's wish, before the scroll itself: else the next token would pull them back.
  const letGo = () => {
    isFollowing = false;
    update();
  };
  window.addEventListener('wheel', (event) => event.deltaY < 0 && letGo(), { passive: true });
  window.addEventListener('touchmove', letGo, { passive: true });
  window.addEventListener('keydown', (event) => {
    const isTyping = event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement;
    if (!isTyping && ['PageUp', 'ArrowUp', 'Home'].includes(event.key)) letGo();
  });
  button.addEventListener('click', () => {
    isFollowing = true;
    toEnd();
    update();
  });
  return {
    /** After the page has grown. */
    grown: () => {
      if (isFollowing) toEnd();
      update();
    },
    /** After the reader has sent something: they want to see what comes. */
    follow: () => {
      isFollowing = true;
      toEnd();
      update();
    },
  };
}
