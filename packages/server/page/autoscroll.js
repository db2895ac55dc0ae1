// Keeps the newest text in view while the reader is at the end, until they scroll away.

const nearPx = 60;

export function autoscroll(button) {
  let isFollowing = true;
  const distance = () => document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
  const toEnd = () => window.scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' });
  const update = () => {
    button.hidden = isFollowing || distance() < nearPx;
  };
  // A growing page makes no scroll event, so an event here comes from the reader, or from this file's own scroll to the end.
  window.addEventListener(
    'scroll',
    () => {
      isFollowing = distance() < nearPx;
      update();
    },
    { passive: true },
  );
  // Reacts before the scroll itself, else the next token would pull the reader back.
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
    /** After the reader has sent a message, to show the answer. */
    follow: () => {
      isFollowing = true;
      toEnd();
      update();
    },
  };
}
