import { expect, test } from 'vitest';
import { failure, safetensorsBytes, safetensorsOf, temporaryFile } from './checkpoint-files.fixture.ts';
import { openFileBytes } from './file-bytes.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors.ts';

function read(bytes: Uint8Array): SafetensorsHeader {
  const file = openFileBytes(temporaryFile('model.safetensors', bytes));
  try {
    return readSafetensorsHeader(file);
  } finally {
    file.close();
  }
}

const entry = (dtype: string, shape: string, offsets: string): string => `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const good = safetensorsOf({
  a: { dtype: 'F32', shape: [2, 3], data: new Uint8Array(24) },
  b: { dtype: 'BF16', shape: [], data: new Uint8Array(2) },
});
const data = new Uint8Array(24);
const corrupt = 'GRAFT_CHECKPOINT_CORRUPT';

const broken: [what: string, bytes: Uint8Array, code: string, message: RegExp][] = [
  ['an empty file', new Uint8Array(0), corrupt, /0 bytes, too few/],
  ['a file cut in the length', good.subarray(0, 5), corrupt, /5 bytes, too few/],
  ['a file cut in the header', good.subarray(0, 40), corrupt, /header should have \d+ bytes; the file has 32/],
  ['a file cut in the data', good.subarray(0, good.length - 3), corrupt, /"data_offsets" is \[0, 24\], and the data has 23 bytes/],
  ['a file with bytes at its end', Uint8Array.from([...good, 0]), corrupt, /end at byte \d+ and the file at/],
  ['a header length of 2^60', safetensorsBytes('{}', data, 2n ** 60n), corrupt, /1152921504606846976/],
  ['a header that is no JSON', safetensorsBytes('{"a":'), corrupt, /not valid JSON/],
  ['a header that is a list', safetensorsBytes('[]'), corrupt, /does not begin with "\{"/],
  [
    'a header that is not UTF-8',
    Uint8Array.from([...safetensorsBytes('', new Uint8Array(0), 2n), 0x7b, 0xfe]),
    corrupt,
    /not valid.*utf-8/,
  ],
  ['brackets without end', safetensorsBytes(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), corrupt, /nested more than 64 deep/],
  [
    'a name that occurs twice',
    safetensorsBytes(`{"a":${entry('F32', '[6]', '[0,24]')},"a":${entry('F32', '[6]', '[0,24]')}}`, data),
    corrupt,
    /"a" occurs twice/,
  ],
  [
    'a name that occurs twice, once escaped',
    safetensorsBytes(`{"a":${entry('F32', '[6]', '[0,24]')},"\\u0061":1}`, data),
    corrupt,
    /"a" occurs twice/,
  ],
  [
    'a field that occurs twice',
    safetensorsBytes('{"a":{"dtype":"F32","shape":[6],"dtype":"F16","data_offsets":[0,24]}}', data),
    corrupt,
    /"dtype" occurs twice/,
  ],
  ['an entry that is no object', safetensorsBytes('{"a":3}'), corrupt, /tensor "a"/],
  [
    'an entry whose fields come from __proto__',
    safetensorsBytes(`{"a":{"__proto__":${entry('F32', '[6]', '[0,24]')}}}`, data),
    corrupt,
    /"dtype" is undefined/,
  ],
  [
    'an unknown dtype',
    safetensorsBytes(`{"a":${entry('F33', '[6]', '[0,24]')}}`, data),
    'GRAFT_CHECKPOINT_DTYPE',
    /"F33" is unknown.*tensor "a"/s,
  ],
  [
    'a dtype named like a method',
    safetensorsBytes(`{"a":${entry('constructor', '[6]', '[0,24]')}}`, data),
    'GRAFT_CHECKPOINT_DTYPE',
    /"constructor" is unknown/,
  ],
  ['a negative dimension', safetensorsBytes(`{"a":${entry('F32', '[-6]', '[0,24]')}}`, data), corrupt, /\[-6\]/],
  ['a fractional dimension', safetensorsBytes(`{"a":${entry('F32', '[1.5]', '[0,24]')}}`, data), corrupt, /\[1.5\]/],
  ['a dimension beyond 2^53', safetensorsBytes(`{"a":${entry('F32', '[1e300]', '[0,24]')}}`, data), corrupt, /dimension/],
  [
    'dimensions whose product overflows',
    safetensorsBytes(`{"a":${entry('F32', '[4294967296,4294967296,4294967296,4294967296]', '[0,0]')}}`),
    corrupt,
    /more elements than any file/,
  ],
  [
    'an overflow behind a zero',
    safetensorsBytes(`{"a":${entry('F32', '[0,4503599627370496,4503599627370496]', '[0,0]')}}`),
    corrupt,
    /more elements than any file/,
  ],
  ['offsets past the end', safetensorsBytes(`{"a":${entry('F32', '[6]', '[24,48]')}}`, data), corrupt, /\[24, 48\], and the data has 24/],
  ['offsets in the wrong order', safetensorsBytes(`{"a":${entry('F32', '[6]', '[24,0]')}}`, data), corrupt, /\[24, 0\]/],
  ['negative offsets', safetensorsBytes(`{"a":${entry('F32', '[6]', '[-24,0]')}}`, data), corrupt, /\[-24, 0\]/],
  ['three offsets', safetensorsBytes(`{"a":${entry('F32', '[6]', '[0,24,24]')}}`, data), corrupt, /not two numbers/],
  [
    'offsets that do not fit the shape',
    safetensorsBytes(`{"a":${entry('F32', '[5]', '[0,24]')}}`, data),
    corrupt,
    /needs 20 bytes, and "data_offsets" span 24/,
  ],
  [
    'tensors over each other',
    safetensorsBytes(`{"a":${entry('F32', '[6]', '[0,24]')},"b":${entry('F32', '[1]', '[20,24]')}}`, data),
    corrupt,
    /overlaps "a".*tensor "b"/s,
  ],
  [
    'a hole between tensors',
    safetensorsBytes(`{"a":${entry('F32', '[1]', '[0,4]')},"b":${entry('F32', '[1]', '[20,24]')}}`, data),
    corrupt,
    /leaves a hole after "a"/,
  ],
];

test.each(broken)('%s is one clear error that names the file', async (_, bytes, code, message) => {
  const error = await failure(() => read(bytes));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
  expect(error.where).toContain('model.safetensors');
  expect(error.fix).toBeDefined();
});

test('a file cut anywhere fails', async () => {
  for (let length = 0; length < good.length; length += 3) {
    expect((await failure(() => read(good.subarray(0, length)))).code).toBe(corrupt);
  }
});

test('a tensor named __proto__ is a tensor like any other', () => {
  const { tensors } = read(safetensorsBytes(`{"__proto__":${entry('F32', '[6]', '[0,24]')}}`, data));
  expect([...tensors.keys()]).toEqual(['__proto__']);
  expect(tensors.get('__proto__')).toMatchObject({ dtype: 'F32', shape: [6], byteLength: 24 });
});

test('names with quotes, brackets and commas in them do not confuse the search for duplicates', () => {
  const header = JSON.stringify({
    'a"},{"': { dtype: 'F32', shape: [3], data_offsets: [0, 12] },
    'a\\': { dtype: 'F32', shape: [3], data_offsets: [12, 24] },
  });
  expect(read(safetensorsBytes(header, data)).tensors.size).toBe(2);
});

test('offsets count from the end of the header', () => {
  const { tensors, headerBytes } = read(good);
  expect(tensors.get('b')).toMatchObject({ shape: [], offset: headerBytes + 24, byteLength: 2 });
});
