import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { system, systemOf } from '@graft/system';
import { OrtLibraryError, OrtPlatformError } from './errors.ts';

/**
 * The ONNX Runtime library inside the installed `onnxruntime-node`.
 * @throws OrtPlatformError when it has none for this system; OrtLibraryError when the package is missing.
 */
export function findLibrary({ platform, arch }: { platform: string; arch: string } = process): string {
  const bin = join(packageFolder(), 'bin');
  const versions = existsSync(bin) ? readdirSync(bin).filter((name) => name.startsWith('napi-v')) : [];
  const newestFirst = versions.sort((a, b) => Number(b.slice(6)) - Number(a.slice(6)));
  for (const version of newestFirst) {
    const folder = join(bin, version, platform, arch);
    const files = existsSync(folder) ? readdirSync(folder) : [];
    const file = files.find((name) => systemOf(platform).libraryFile('onnxruntime').test(name));
    if (file !== undefined) return join(folder, file);
  }
  throw new OrtPlatformError({
    what: `onnxruntime-node has no library for ${platform} (${arch}).`,
    where: bin,
    fix: 'use Linux (x64, arm64), macOS (arm64) or Windows (x64, arm64).',
  });
}

/** The version of the installed `onnxruntime-node`. @throws OrtPlatformError, OrtLibraryError */
export function libraryVersion(): string {
  findLibrary();
  return (JSON.parse(readFileSync(join(packageFolder(), 'package.json'), 'utf8')) as { version: string }).version;
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  } catch (cause) {
    throw new OrtLibraryError({ what: 'The package onnxruntime-node is not installed.', fix: 'npm install onnxruntime-node.', cause });
  }
}

/**
 * Turns ONNX Runtime's telemetry off, unless the user has set the variable. The C API can do so only after an environment exists, and that already writes a
 * device id and opens a store of events.
 */
export function disableTelemetry(): void {
  system.setVariable('ORT_DISABLE_TELEMETRY', '1');
}
