// Makes elements from data and text only. No string becomes HTML here.

/**
 * `el('button.primary', { type: 'button', onclick }, 'Send')`. Attributes are set by name, `on…` functions as listeners;
 * null and false leave an attribute out. Children: nodes, strings, null.
 */
export function el(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split('.');
  const element = document.createElement(tag);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

const svgNamespace = 'http://www.w3.org/2000/svg';

export function icon(path) {
  const svg = document.createElementNS(svgNamespace, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const shape = document.createElementNS(svgNamespace, 'path');
  shape.setAttribute('d', path);
  svg.append(shape);
  return svg;
}

export const icons = {
  copy: 'M9 9h10v11H9zM5 15V4h10',
  done: 'M5 13l4 4L19 7',
  edit: 'M4 20h4L19 9l-4-4L4 16z',
  remove: 'M6 6l12 12M18 6L6 18',
  again: 'M20 11a8 8 0 1 0-2.3 6.300M20 5v6h-6',
};

/** A button that copies the result of `text()`, and confirms it. */
export function copyButton(label, text, announce) {
  const button = el('button.text-button', { type: 'button' }, icon(icons.copy), label);
  button.addEventListener('click', async () => {
    const done = await copy(text());
    button.replaceChildren(icon(icons.done), done ? 'Copied' : 'Could not copy');
    announce(done ? 'Copied.' : 'The browser did not let the page copy.');
    setTimeout(() => button.replaceChildren(icon(icons.copy), label), 1600);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The clipboard needs a secure context. Over plain http on a network name, the old way still works.
    const area = el('textarea.sr-only', { 'aria-hidden': 'true', tabindex: '-1' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
