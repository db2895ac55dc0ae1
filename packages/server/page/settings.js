// The settings dialog and the theme.
import { byId } from '/dom.js';
import { defaults, loadSettings, save } from '/storage.js';

/** @returns the settings object. It changes in place as the reader changes the settings. */
export function settingsDialog(onChange) {
  const settings = loadSettings();
  const fields = {
    temperature: byId('temperature'),
    maxTokens: byId('max-tokens'),
    seed: byId('seed'),
    system: byId('system'),
    apiKey: byId('api-key'),
  };
  const show = () => {
    for (const [key, field] of Object.entries(fields)) field.value = settings[key] ?? '';
    byId('temperature-value').textContent = Number(settings.temperature).toFixed(1);
  };
  const read = () => {
    settings.temperature = Number(fields.temperature.value);
    settings.maxTokens = wholeNumber(fields.maxTokens, 1);
    settings.seed = wholeNumber(fields.seed, Number.MIN_SAFE_INTEGER);
    settings.system = fields.system.value;
    settings.apiKey = fields.apiKey.value.trim();
    byId('temperature-value').textContent = settings.temperature.toFixed(1);
    save('settings', settings);
    onChange();
  };
  byId('settings-form').addEventListener('input', read);
  byId('reset-settings').addEventListener('click', () => {
    Object.assign(settings, { ...defaults, apiKey: settings.apiKey });
    show();
    read();
  });
  show();
  return settings;
}

function wholeNumber(field, least) {
  const value = Number(field.value);
  return field.value === '' || !Number.isSafeInteger(value) || value < least ? null : value;
}

const themes = ['system', 'light', 'dark'];

export function themeToggle(button, announce) {
  const current = () => document.documentElement.dataset.theme ?? 'system';
  const label = () => {
    button.title = `Colours: ${current()}`;
    button.setAttribute('aria-label', button.title);
  };
  button.addEventListener('click', () => {
    const next = themes[(themes.indexOf(current()) + 1) % themes.length];
    if (next === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem('graft.theme', next);
    } catch {
      // The setting holds for this visit.
    }
    label();
    announce(button.title);
  });
  label();
}
