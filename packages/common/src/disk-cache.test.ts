import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { evictCacheEntries, useCacheEntry } from './disk-cache.ts';

const now = 1_700_000_000_000;
const day = 86_400_000;
const a = 'a'.repeat(40);
const b = 'b'.repeat(40);
const c = 'c'.repeat(40);
let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'graft-cache-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A file of 100 bytes that was last used so many days ago. */
function write(name: string, daysAgo: number): void {
  const path = join(directory, name);
  writeFileSync(path, new Uint8Array(100));
  age(path, daysAgo);
}

function age(path: string, daysAgo: number): void {
  const date = new Date(now - daysAgo * day);
  utimesSync(path, date, date);
}

const user = (key: string, pid: number, host = hostname()): string => `${key}.${host}.${pid}.use`;

function deadProcess(): number {
  return spawnSync(process.execPath, ['--version']).pid;
}

const left = (limits: { maxBytes: number }): string[] => {
  evictCacheEntries([directory], { ...limits, now });
  return readdirSync(directory).sort();
};

test('the least recently used entries go until the others fit, with all files of theirs', () => {
  write(`${a}.weights`, 3);
  write(`${a}.json`, 3);
  write(`${b}.weights`, 2);
  write(`${c}.weights`, 1);
  expect(left({ maxBytes: 200 })).toEqual([`${b}.weights`, `${c}.weights`]);
  expect(left({ maxBytes: 200 })).toEqual([`${b}.weights`, `${c}.weights`]);
});

test('an entry that nobody used for 30 days goes though there is room; a folder counts with what is in it', () => {
  mkdirSync(join(directory, a));
  write(`${a}/1x8.json`, 40);
  age(join(directory, a), 31);
  write(`${b}.weights`, 29);
  expect(left({ maxBytes: 1000 })).toEqual([`${b}.weights`]);
});

test('folders share one limit', () => {
  const recipes = join(directory, 'recipes');
  mkdirSync(recipes);
  write(`${a}.weights`, 2);
  write(`recipes/${b}`, 1);
  evictCacheEntries([directory, recipes, join(directory, 'absent')], { maxBytes: 150, now });
  expect([existsSync(join(directory, `${a}.weights`)), readdirSync(recipes)]).toEqual([false, [b]]);
});

test('an entry in use by a living process stays; one whose process ended goes with its marks', () => {
  write(`${a}.weights`, 50);
  write(user(a, process.ppid), 50);
  write(`${b}.weights`, 50);
  write(user(b, deadProcess()), 50);
  expect(left({ maxBytes: 0 })).toEqual([`${a}.weights`, user(a, process.ppid)].sort());
});

test('an entry in use on another machine stays until it is 30 days old', () => {
  write(`${a}.weights`, 29);
  write(user(a, 1, 'elsewhere'), 29);
  write(`${b}.weights`, 31);
  write(user(b, 1, 'elsewhere'), 31);
  expect(left({ maxBytes: 0 })).toEqual([`${a}.weights`, user(a, 1, 'elsewhere')].sort());
});

test('a use makes an entry the latest and keeps it from this process, in a folder that may be new', () => {
  write(`${a}.weights`, 50);
  useCacheEntry(directory, a);
  expect(statSync(join(directory, `${a}.weights`)).mtimeMs).toBeGreaterThan(now);
  expect(left({ maxBytes: 0 })).toEqual([`${a}.weights`, user(a, process.pid)].sort());
  useCacheEntry(join(directory, 'new'), b);
  expect(readdirSync(join(directory, 'new'))).toEqual([user(b, process.pid)]);
  write('file', 0);
  useCacheEntry(join(directory, 'file'), a); // nothing can be written there
});

test('half-written files go after an hour, others may still be written; what is no entry stays', () => {
  mkdirSync(join(directory, b));
  for (const name of [`${a}.77-0123456789ab.weights.tmp`, `${b}/77-1.onnx.tmp`]) write(name, 1 / 23);
  for (const name of [`${a}.78-0123456789ab.weights.tmp`, `${b}/78-1.onnx.tmp`, 'mine.tmp']) write(name, 1 / 25);
  age(join(directory, b), 0);
  expect(left({ maxBytes: 1000 })).toEqual([`${a}.78-0123456789ab.weights.tmp`, b, 'mine.tmp']);
  expect(readdirSync(join(directory, b))).toEqual(['78-1.onnx.tmp']);
});
