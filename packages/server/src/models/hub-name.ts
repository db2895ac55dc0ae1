import { basename } from 'node:path';
import { quotedList } from '@graft/common';
import { HubFilesError, HubNameError } from './errors.ts';

/** A model of the Hugging Face hub. */
export interface HubName {
  /** As it was written. */
  readonly text: string;
  /** `ORG/REPO`. */
  readonly repo: string;
  /** A quantisation or a file name of a GGUF; null for what the repository offers. */
  readonly variant: string | null;
  /** A branch, a tag or a commit; null where none was written. */
  readonly revision: string | null;
}

const grammar = 'hf:ORG/REPO[:QUANT or FILE][@REVISION]';
const parts = /^(?!\.\.?\/)([\w.-]+\/[\w.-]+)(?::([\w./+ -]+))?(?:@(?!\/|.*\.\.)([\w./+-]+))?$/;

/** Whether a text without `hf:` has the form of a hub name; so has a relative path of two parts. */
export function looksLikeHubName(text: string): boolean {
  return parts.test(text);
}

/** @throws HubNameError for a malformed name, and for one without `hf:`. */
export function parseHubName(text: string): HubName {
  const [, repo, variant = null, revision = null] = parts.exec(text.replace(/^hf:/, '')) ?? [];
  if (repo === undefined)
    throw new HubNameError(`"${text}" is not the name of a model.`, text, `write ${grammar}, such as hf:Qwen/Qwen3-0.6B-GGUF:Q8_0.`);
  if (!text.startsWith('hf:'))
    throw new HubNameError(
      `"${text}" lacks the "hf:" of a model's name.`,
      text,
      `for the model of that name on the Hugging Face hub, write hf:${text}; for a file or folder, correct the path.`,
    );
  return { text, repo, variant, revision };
}

/** Which files of a repository make up a model. */
export interface Selection {
  /** Config, tokenizer and templates of safetensors; none of a GGUF. */
  readonly small: readonly string[];
  /** Lists the shards of safetensors; null where `weights` is complete. */
  readonly index: string | null;
  readonly weights: readonly string[];
  /** What to open: the first part of a GGUF; '' for the folder. */
  readonly open: string;
  /** Tells of a choice that the name left open. */
  readonly note: string | null;
}

const smallFiles = new RegExp(
  '^(' +
    '(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\\.json|' +
    '(preprocessor_config|processor_config|quantize_config|quant_config)\\.json|' +
    'merges\\.txt|tokenizer\\.model|chat_template\\.jinja|additional_chat_templates/[^/]+\\.jinja)$',
);
const indexName = 'model.safetensors.index.json';
const singleName = 'model.safetensors';

/**
 * The files that a name asks for: the safetensors of the repository, or one GGUF where the name has a variant or the repository has nothing else.
 * @param paths all files of the repository.
 * @throws HubFilesError
 */
export function selectFiles(name: HubName, paths: readonly string[]): Selection {
  if (name.variant !== null || !hasSafetensors(paths)) return selectGguf(name, paths);
  const small = paths.filter((path) => smallFiles.test(path));
  const isSharded = paths.includes(indexName);
  return { small, index: isSharded ? indexName : null, weights: isSharded ? [] : [singleName], open: '', note: null };
}

export function hasSafetensors(paths: readonly string[]): boolean {
  return paths.includes('config.json') && [indexName, singleName].some((name) => paths.includes(name));
}

const splitEnd = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Files that llama.cpp loads next to a model and never as one. */
const accessories = /mmproj|imatrix|mtp-|eagle3-|dflash-|dspark-/;

/** The files that name a GGUF each: whole ones, and the first of several parts. */
export function ggufModels(paths: readonly string[]): string[] {
  return paths.filter((path) => /\.gguf$/i.test(path) && !accessories.test(basename(path)) && Number(splitEnd.exec(path)?.[1] ?? 1) === 1);
}

/** `models/x-q4_k_m.gguf` -> `Q4_K_M`; null for a path that names no quantisation. */
export function quantOf(path: string): string | null {
  const stem = path.replace(splitEnd, '').replace(/\.gguf$/i, '');
  const labels = stem.matchAll(/(?<![a-z0-9])(UD-)?(I?Q\d\w*|TQ\d_\d|MXFP4\w*|NVFP4|BF16|FP?16|FP?32)(?![a-z0-9])/gi);
  return [...labels].at(-1)?.[0].toUpperCase() ?? null;
}

/** llama.cpp takes Q4_K_M, then Q8_0; of others, the one whose bits are nearest to 4 comes first. */
function rank(path: string): number {
  const quant = quantOf(path);
  const preferred = ['Q4_K_M', 'Q8_0'].indexOf(quant ?? '');
  return preferred >= 0 ? preferred - 2 : Math.abs(Number(/\d+/.exec(quant ?? '')?.[0] ?? 32) - 4);
}

function selectGguf({ text, repo, variant, revision }: HubName, paths: readonly string[]): Selection {
  const nameOf = (what: string) => `hf:${repo}:${what}${revision === null ? '' : `@${revision}`}`;
  const models = ggufModels(paths).sort((a, b) => rank(a) - rank(b));
  const [best] = models;
  if (best === undefined) {
    const weights = paths.filter((path) => /\.(safetensors|bin|pth?|gguf|onnx|h5|msgpack)$/.test(path)).slice(0, 8);
    const advice = hasSafetensors(paths) ? `write hf:${repo} for its safetensors` : 'choose another repository';
    throw new HubFilesError(
      `The repository has no .gguf file${variant === null ? ` and no config.json with ${singleName}` : ''}.`,
      text,
      `${advice}; this one has ${quotedList(weights, 'no weights that are known here', 'and')}.`,
    );
  }
  const labels = [...new Set(models.map((path) => quantOf(path) ?? path))];
  const list = `It has ${quotedList(labels, '', 'and')}`;
  const [first, ...others] = variant === null ? models.filter((path) => quantOf(path) === quantOf(best)) : ggufsNamed(variant, models);
  if (first === undefined)
    throw new HubFilesError(
      `The repository has no GGUF "${variant}".`,
      text,
      `write one that it has, such as ${nameOf(labels[0]!)}. ${list}.`,
    );
  if (others.length > 0)
    throw new HubFilesError(
      `"${text}" may mean several GGUFs: ${quotedList([first, ...others], '', 'and')}.`,
      text,
      `name the file, such as ${nameOf(first)}.`,
    );
  const isChosen = variant === null && labels.length > 1;
  const note = isChosen ? `${text}: ${labels[0]} is taken. ${list}: write ${nameOf('QUANT')} for another.` : null;
  return { small: [], index: null, weights: partsOf(first, paths, text), open: first, note };
}

/** The GGUFs that a variant names, by a file (any part's) or a quantisation. `Q4_K_XL` and `UD-Q4_K_XL` stand for each other where one is alone. */
export function ggufsNamed(variant: string, paths: readonly string[]): string[] {
  const models = ggufModels(paths);
  if (/\.gguf$/i.test(variant)) {
    const first = variant.replace(splitEnd, (_, __, count: string) => `-00001-of-${count}.gguf`);
    const exact = models.filter((path) => path === first);
    return exact.length > 0 ? exact : models.filter((path) => basename(path) === first);
  }
  const asked = variant.toUpperCase();
  const exact = models.filter((path) => quantOf(path) === asked);
  return exact.length > 0 ? exact : models.filter((path) => quantOf(path)?.replace(/^UD-/, '') === asked.replace(/^UD-/, ''));
}

/** Those of the paths that are parts of the model. */
export function partsAmong(first: string, paths: readonly string[]): string[] {
  const stem = first.replace(splitEnd, '');
  return paths.filter((path) => path.replace(splitEnd, '') === stem);
}

/** @throws HubFilesError for a missing part. */
function partsOf(first: string, paths: readonly string[], text: string): string[] {
  const count = Number(splitEnd.exec(first)?.[2] ?? 1);
  const there = partsAmong(first, paths);
  if (there.length === count) return there;
  const what = `Of the ${count} parts of ${first}, ${there.length} are there.`;
  throw new HubFilesError(what, text, 'choose another quantisation or repository.');
}
