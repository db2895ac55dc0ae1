// The images of the next message: chosen, pasted or dropped, shown as thumbnails, and taken when it is sent.
import { el, icon, icons } from '/dom.js';

const types = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];

/** Thumbnails in a list; with `onRemove(image)` each has a button. `images`: `{ name, url }`, where `url` is a `data:` URL. */
export function thumbnails(images, onRemove = null) {
  return el(
    'ul.thumbnails',
    { 'aria-label': 'Images' },
    images.map((image) => thumbnail(image, onRemove)),
  );
}

function thumbnail(image, onRemove) {
  const picture = el('img', { src: image.url, alt: image.name });
  if (onRemove === null) return el('li', {}, picture);
  const remove = el('button.remove', { type: 'button', 'aria-label': `Remove ${image.name}`, title: 'Remove' }, icon(icons.remove));
  remove.addEventListener('click', () => onRemove(image));
  return el('li', {}, picture, remove);
}

/**
 * `room()` gives the number of images that the conversation can still hold. `limits()` gives the limits of one image, or null if the model reads none: then
 * nothing is taken, and the browser handles a pasted or dropped file.
 */
export function attachments({ composer, prompt, room, limits, announce, onChange }) {
  let images = [];
  const shown = composer.querySelector('.attachments');
  const note = composer.querySelector('.attachments-note');
  const button = composer.querySelector('#attach');
  const input = composer.querySelector('#attach-files');

  const show = () => {
    shown.replaceChildren(...(images.length === 0 ? [] : [thumbnails(images, remove)]));
    onChange();
  };
  const remove = (image) => {
    images = images.filter((one) => one !== image);
    say('');
    show();
    announce(`${image.name} removed.`);
    prompt.focus();
  };
  const say = (text) => {
    note.textContent = text;
    note.hidden = text === '';
  };
  const read = async (files) => {
    const refusals = [];
    const taken = [];
    for (const file of files) {
      const refusal = refusalOf(file, limits(), room() - images.length - taken.length);
      const { url = null, fault = refusal } = refusal === null ? await readImage(file, limits()) : {};
      if (url !== null) taken.push({ name: file.name || 'image', url });
      else refusals.push(fault);
    }
    images = [...images, ...taken];
    say(refusals.join(' '));
    show();
    if (taken.length > 0) announce(`Attached: ${taken.map(({ name }) => name).join(', ')}.`);
    prompt.focus();
  };
  // One after another, since each needs the number of images so far.
  let reading = Promise.resolve();
  const add = (files) => {
    reading = reading.then(() => read(files));
  };
  const takeFrom = (event, transfer) => {
    const files = [...(transfer?.files ?? [])];
    if (limits() === null || files.length === 0) return;
    event.preventDefault();
    add(files);
  };

  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const files = [...input.files];
    input.value = ''; // so that the same file can be chosen again
    add(files);
  });
  prompt.addEventListener('paste', (event) => takeFrom(event, event.clipboardData));
  document.addEventListener('dragover', (event) => {
    if (limits() !== null && event.dataTransfer?.types.includes('Files')) event.preventDefault();
  });
  document.addEventListener('drop', (event) => takeFrom(event, event.dataTransfer));

  return {
    get count() {
      return images.length;
    },
    /** Takes the images, to send them with a message. */
    take() {
      const taken = images;
      images = [];
      say('');
      show();
      return taken;
    },
    /** Call once it is known whether the model reads images. */
    update() {
      button.hidden = limits() === null;
    },
  };
}

/** Why a file is refused; null if it is taken. */
function refusalOf({ name, type, size }, { maxImages, maxImageBytes }, room) {
  if (!types.includes(type)) return `${name} is not a PNG, JPEG, WebP or GIF.`;
  if (size > maxImageBytes) return `${name} is larger than ${megabytes(maxImageBytes)}.`;
  if (room <= 0) return `${name} is too many: a conversation has at most ${maxImages} images.`;
  return null;
}

/** Refuses a file that the server would refuse. In the conversation, every later question would send it again. */
async function readImage(file, { maxImagePixels }) {
  const url = await dataUrl(file);
  const size = url === null ? null : await sizeOf(url);
  if (size === null) return { fault: `${file.name} cannot be read.` };
  if (size.width * size.height <= maxImagePixels) return { url };
  return { fault: `${file.name} has ${megapixels(size.width * size.height)} megapixels; at most ${megapixels(maxImagePixels)} are read.` };
}

/** In pixels; null if it is not an image. */
async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  }
}

const megapixels = (pixels) => Number((pixels / 1e6).toFixed(1));

const megabytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1).replace('.0', '')} MB`;

/** Null if the file cannot be read, such as a folder. */
function dataUrl(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve(null);
    reader.readAsDataURL(file);
  });
}
