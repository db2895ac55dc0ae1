// Shows which class serves the model, and why, from the resolution's record.

import { byId, el } from '/dom.js';
import { duration } from '/messages.js';

const reasonTexts = {
  selected: 'chosen',
  base: 'built upon',
  outranked: 'outranked',
  scoped: 'serves inside certain classes',
  'other-platform': 'other platform',
  'other-mode': 'other mode',
  condition: 'refused this device',
  without: 'switched off',
};

/** @param health the body of GET /health, or null with a `failure`. */
export function showPanel({ health, failure }) {
  const body = byId('panel-body');
  // The panel scrolls, so a keyboard must be able to reach it.
  body.tabIndex = 0;
  const { engine, stats } = health ?? {};
  if (!engine) {
    body.replaceChildren(
      el('p', {}, failure?.title ?? 'The server shows this only with its API key.', ' ', failure?.message ?? 'Enter it in the settings.'),
    );
    return;
  }
  body.replaceChildren(
    ...[
      headline(engine),
      emulated(engine),
      chain(engine),
      candidates(engine),
      layers(engine),
      changes(engine),
      facts(engine, stats),
      times(engine),
      text(engine),
    ].filter(Boolean),
  );
}

function headline({ model, modelClass, platform, mode }) {
  return el('p.headline', {}, model, ' is served by ', el('code', {}, modelClass), ' on ', el('code', {}, platform), `, mode ${mode}.`);
}

function emulated({ device, platform }) {
  if (device !== 'emulated') return null;
  return el(
    'p.notice',
    {},
    el('strong', {}, 'Emulated device. '),
    `This machine has no ${platform} hardware; its CPU emulates the device. Answers are the same, but the speed says nothing about the real device.`,
  );
}

function chain({ resolution }) {
  if (!Array.isArray(resolution?.chain) || resolution.chain.length === 0) return null;
  const items = resolution.chain.map((link) =>
    typeof link === 'string'
      ? el('li', {}, el('code', {}, link))
      : el('li', {}, el('code', {}, link.className ?? '(not imported)'), el('small', {}, chainNote(link))),
  );
  return section('The class, from upstream up', el('ol.chain', {}, items));
}

function chainNote({ kind, plugin, priority }) {
  return [kind, `from plugin ${plugin}`, priority === null || priority === undefined ? null : `priority ${priority}`]
    .filter(Boolean)
    .join(' · ');
}

function candidates({ resolution }) {
  const list = Array.isArray(resolution?.candidates) ? resolution.candidates : [];
  const passed = Array.isArray(resolution?.passedOver) ? resolution.passedOver : [];
  if (list.length + passed.length === 0) return null;
  const items = [
    ...passed.map((one) => candidate(one.architecture, one.reason, one.detail)),
    ...list.map((one) => candidate(candidateName(one), one.reason, one.detail)),
  ];
  return section('Why this one', el('ul.candidates', {}, items));
}

/** The parts of the model that overrides replaced, with counts. */
function layers({ resolution }) {
  const items = (resolution?.layers ?? []).flatMap(({ name, candidates: all }) =>
    all.filter(({ kind }) => kind !== 'upstream').map((one) => candidate(`${name}: ${candidateName(one)}`, one.reason, replacedText(one))),
  );
  return items.length === 0 ? null : section('Parts that overrides replace', el('ul.candidates', {}, items));
}

function replacedText({ detail, replaced }) {
  if (!replaced?.count) return detail;
  return `${replaced.count} instances${replaced.paths.length === 0 ? '' : `, first at ${replaced.paths[0] || 'the model'}`}; ${detail}`;
}

function candidateName({ plugin, kind, platform }) {
  return [kind === 'upstream' ? 'Upstream' : 'Override', ` of ${plugin}`, platform ? ` for ${platform}` : ''].join('');
}

function candidate(name, reason, detail) {
  const mark = el('span.reason', { title: reasonTexts[reason] ?? reason }, reason);
  return el(reason === 'selected' ? 'li.selected' : 'li', {}, mark, name, el('small', {}, detail));
}

function changes({ changes: made }) {
  const hooks = (made?.hooks ?? []).filter(({ outcome }) => outcome === 'ran');
  if (hooks.length === 0) return null;
  const hookItems = hooks.map(({ phase, hook, plugin, reason }) =>
    el('li', {}, el('span.reason', {}, phase), el('code', {}, hook), el('small', {}, reason ?? `a hook of ${plugin}`)),
  );
  const patchItems = made.patches.map(({ count, operation, target, detail, paths }) => {
    const place = paths.length === 0 ? '' : `; first at ${paths[0]}`;
    return el('li', {}, el('span.reason', {}, operation), `${count} × `, el('code', {}, target), el('small', {}, `${detail}${place}`));
  });
  return section('What the hooks changed', el('ul.candidates', {}, [...hookItems, ...patchItems]));
}

function facts(engine, stats) {
  const rows = {
    Architecture: engine.architecture,
    Platform: `${engine.platform} (${engine.device === 'emulated' ? 'emulated' : 'device'}, ${engine.mode})`,
    ...(engine.backend && { Backend: `${engine.backend.name}: ${engine.backend.reason}` }),
    Weights: engine.weights,
    Context: `${engine.maxModelLength.toLocaleString()} tokens`,
    Vocabulary: `${engine.vocabSize.toLocaleString()} tokens`,
    Plugins: engine.plugins.join(', ') || 'none',
    ...(stats
      ? {
          Requests: `${stats.running} running, ${stats.waiting} waiting; ${stats.freeSlots} of ${engine.maxSequences} slots free`,
          Tokens: `${stats.promptTokens.toLocaleString()} read, ${stats.generationTokens.toLocaleString()} written`,
          Graphs: `${stats.captures} captured, ${stats.compiles} compiled, ${stats.recompiles} recompiled`,
        }
      : {}),
  };
  return section(
    'In numbers',
    el(
      'dl.facts',
      {},
      Object.entries(rows).flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))]),
    ),
  );
}

function times({ timings }) {
  const list = Object.entries(timings ?? {}).filter(([, seconds]) => typeof seconds === 'number');
  if (list.length === 0) return null;
  const longest = Math.max(...list.map(([, seconds]) => seconds), 0.001);
  const items = list.map(([name, seconds]) =>
    el(
      'li',
      {},
      el('span', {}, name),
      el('meter', { min: 0, max: longest, value: seconds, 'aria-label': name }),
      el('span', {}, duration(seconds * 1000)),
    ),
  );
  return section('The start, step by step', el('ul.times', {}, items));
}

function text({ explanation }) {
  if (!explanation) return null;
  return el(
    'details',
    {},
    el('summary', {}, 'As graft explain prints it'),
    el('pre', { tabindex: '0', role: 'region', 'aria-label': 'Explanation' }, explanation),
  );
}

function section(title, ...children) {
  return el('section', {}, el('h3', {}, title), ...children);
}
