import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { messageOf } from '@graft/common';
import { type NativeFunction, openLibrary, system } from '@graft/system';
import koffi, { type LibraryHandle } from 'koffi';
import { AbortWatch } from './abort.ts';
import { headerVersion, packageVersion, signatures, tensorLayout, typeCodes } from './binding.ts';
import { GgmlCallError, GgmlLibraryError, GgmlPlatformError } from './errors.ts';

declare const kind: unique symbol;

/** A pointer to a native object. Its type names the kind, because passing the wrong kind crashes the process. */
export type Handle<Kind extends string> = bigint & { readonly [kind]: Kind };

interface Words {
  void: undefined;
  int: number;
  float: number;
  int64: number;
  size: number;
  bool: boolean;
  string: string;
  pointer: bigint | ArrayBufferView | null;
  'size*': [number | null];
  init_params: { mem_size: number; mem_buffer: null; no_alloc: boolean };
}
type ValueOf<Word extends string> = Word extends keyof Words ? Words[Word] : Handle<Word> | null;
type ValuesOf<List extends string> = List extends ''
  ? []
  : List extends `${infer Word} ${infer Rest}`
    ? [ValueOf<Word>, ...ValuesOf<Rest>]
    : [ValueOf<List>];
type Signatures = typeof signatures;
/** The functions of ggml that this package calls, by name. */
export type GgmlCalls = { readonly [Name in keyof Signatures]: (...args: ValuesOf<Signatures[Name][1]>) => ValueOf<Signatures[Name][0]> };
type NativeType = string | ReturnType<typeof koffi.out>;

/** The lines of ggml's log that an error quotes. */
const keptLines = 12;

/** Packages with ggml's libraries: for the CPU alone, or with a GPU's as well. */
export type Accelerator = 'vulkan' | 'cuda' | 'metal' | null;

/** The builds of the npm packages, by Node's names of system and processor. A GPU's has its name added, but Metal is part of the build for macOS. */
const builds: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-arm64': 'mac-arm64-metal',
  'darwin-x64': 'mac-x64',
  'win32-x64': 'win-x64',
  'win32-arm64': 'win-arm64',
};

/**
 * The folder of ggml's libraries in the installed npm package.
 * @throws GgmlPlatformError when there is none for this system; GgmlLibraryError when the package is missing
 */
export function findLibraries(accelerator: Accelerator = null, { platform, arch }: { platform: string; arch: string } = process): string {
  const system = builds[`${platform}-${arch}`];
  if (system === undefined) {
    throw new GgmlPlatformError({
      what: `ggml has no library for ${platform} (${arch}).`,
      fix: `use one of ${Object.keys(builds).join(', ')}, or the backend onnxruntime.`,
    });
  }
  if (accelerator === 'metal' && system !== builds['darwin-arm64'])
    throw new GgmlPlatformError({ what: 'Metal is a library of macOS on arm64.', fix: 'use the platform vulkan or cuda.' });
  const build = accelerator === null || accelerator === 'metal' ? system : `${system}-${accelerator}`;
  const name = `@node-llama-cpp/${build}`;
  try {
    return join(
      dirname(dirname(createRequire(import.meta.url).resolve(name, { paths: [import.meta.dirname, process.cwd()] }))),
      'bins',
      build,
    );
  } catch (cause) {
    const where =
      accelerator === null ? ', without --omit=optional' : ", in the application's folder, or in another one that NODE_PATH names";
    throw new GgmlLibraryError({
      what: `The package ${name} is not installed.`,
      fix: `npm install ${name}@${packageVersion}${where}.`,
      cause,
    });
  }
}

/** What the libraries of an accelerator need on Linux, with what to install. */
const systemLibraries: Record<'vulkan' | 'cuda', readonly (readonly [library: string, install: string])[]> = {
  vulkan: [['libvulkan.so.1', 'install the loader of Vulkan (Debian, Ubuntu: apt-get install libvulkan1) and the driver of the GPU']],
  cuda: [
    ['libcuda.so.1', "install NVIDIA's driver; the package was built for CUDA 13 (driver 580 or newer)"],
    ['libcudart.so.13', "install the runtime of CUDA 13 (with NVIDIA's repository: apt-get install cuda-cudart-13-0)"],
    ['libcublas.so.13', "install cuBLAS of CUDA 13 (with NVIDIA's repository: apt-get install libcublas-13-0)"],
  ],
};

/** The version of the installed npm package. @throws GgmlPlatformError, GgmlLibraryError */
export function libraryVersion(): string {
  findLibraries();
  return packageVersion;
}

/** The file of a library of ggml. @throws GgmlLibraryError */
function fileIn(folder: string, stem: string): string {
  const pattern = system.libraryFile(stem);
  const name = readdirSync(folder).find((each) => pattern.test(each));
  if (name === undefined) throw new GgmlLibraryError({ what: `The folder has no library ${stem}.`, where: folder, fix: reinstall });
  return join(folder, name);
}

/** ggml, loaded into this process together with the CPU's library that fits this processor. */
export class Ggml {
  readonly version: string;
  readonly calls: GgmlCalls;
  readonly aborts: AbortWatch;
  /** The function that was called last. */
  lastCall = '';
  private readonly native = new Map<string, NativeFunction>();
  private readonly base: LibraryHandle;
  /** What ggml logged in the latest call of `logged`. */
  log: readonly string[] = [];

  /** @throws GgmlLibraryError */
  constructor(folder: string) {
    this.base = openLibrary(fileIn(folder, 'ggml-base'));
    const registry = openLibrary(fileIn(folder, 'ggml'));
    const add = (name: string, make: (result: NativeType, args: NativeType[]) => NativeFunction): void => {
      const [result, words] = signatures[name as keyof Signatures];
      this.native.set(name, make(typeOf(result), words === '' ? [] : (words as string).split(' ').map(typeOf)));
    };
    for (const [name, [, , library]] of Object.entries<readonly [string, string, string?]>(signatures)) {
      if (library === 'cpu') continue;
      add(name, (...type) => {
        try {
          return this.base.func(name, ...(type as [string, string[]]));
        } catch {
          return registry.func(name, ...(type as [string, string[]]));
        }
      });
    }
    this.calls = new Proxy({} as GgmlCalls, { get: (_, name) => this.native.get((this.lastCall = name as string)) });
    this.version = this.calls.ggml_version();
    this.checkVersion(folder);
    this.silence();
    this.aborts = new AbortWatch(this);
    this.logged('ggml has no library for this processor.', folder, () => {
      if (this.calls.ggml_backend_dev_count() === 0) this.calls.ggml_backend_load_all_from_path(folder);
      return this.calls.ggml_backend_dev_count() || null;
    });
    const cpu = this.calls.ggml_backend_dev_backend_reg(this.calls.ggml_backend_dev_by_type(0));
    for (const [name, [, , library]] of Object.entries<readonly [string, string, string?]>(signatures)) {
      if (library !== 'cpu') continue;
      const asked = (each: string) => this.calls.ggml_backend_reg_get_proc_address(cpu, each) as bigint | null;
      const address = asked(name) ?? asked(name.replace('_cpu_', '_'));
      if (address === null)
        throw new GgmlLibraryError({ what: `ggml's library for the CPU lacks ${name}.`, where: folder, fix: reinstall });
      add(name, (result, args) => koffi.decode(address, koffi.proto(result as string, args as string[])));
    }
  }

  /** The same call on a thread of libuv's pool. What its arguments point at must stay alive until the promise settles. */
  callAsync<Name extends keyof Signatures>(name: Name, ...args: Parameters<GgmlCalls[Name]>): Promise<ReturnType<GgmlCalls[Name]>> {
    const call = this.native.get((this.lastCall = name))!;
    return new Promise((resolve, reject) => {
      call.async(...args, (error: Error | null, result: ReturnType<GgmlCalls[Name]>) => (error === null ? resolve(result) : reject(error)));
    });
  }

  /** A function of the library or of those that it needs; null where it is unknown. */
  optional(declaration: string): NativeFunction | null {
    try {
      return this.base.func(declaration);
    } catch {
      return null;
    }
  }

  /** Adds the devices of an accelerator to this process. @throws GgmlLibraryError for a missing package or a missing library of the system */
  add(accelerator: NonNullable<Accelerator>): void {
    const folder = findLibraries(accelerator);
    if (accelerator === 'metal') return; // came with the CPU's libraries
    for (const [library, install] of process.platform === 'linux' ? systemLibraries[accelerator] : []) {
      try {
        koffi.load(library);
      } catch (cause) {
        throw new GgmlLibraryError({ what: `ggml for ${accelerator} needs ${library}: ${messageOf(cause)}.`, fix: `${install}.`, cause });
      }
    }
    const path = fileIn(folder, `ggml-${accelerator}`);
    this.logged('The library did not load.', path, () => this.calls.ggml_backend_load(path));
  }

  /** The address of a function, for ggml to call. */
  addressOf(name: string): bigint {
    return this.base.symbol(name);
  }

  /**
   * The result of a call that returns null when it fails.
   * @throws GgmlCallError with the last lines of ggml's log
   */
  logged<T>(what: string, where: string | undefined, call: () => T | null): T {
    const lines: string[] = [];
    let line = '';
    const receive = koffi.register(
      (_level: number, text: string) => {
        line += text;
        if (!line.endsWith('\n')) return;
        lines.push(line.trimEnd());
        line = '';
      },
      koffi.pointer(koffi.proto('void', ['int', 'str', 'void *'])),
    );
    this.calls.ggml_log_set(receive, null);
    try {
      const result = call();
      this.log = lines;
      if (result !== null) return result;
      const said = lines.length === 0 ? '' : ` ggml says:\n${lines.slice(-keptLines).join('\n')}`;
      throw new GgmlCallError({ what: `${what}${said}`, where });
    } finally {
      this.silence();
      koffi.unregister(receive);
    }
  }

  /** Sends ggml's log to a function that takes no arguments and does nothing. A function of JavaScript would outlive its worker thread. */
  private silence(): void {
    this.calls.ggml_log_set(this.addressOf('ggml_version'), null);
  }

  /** Compares version and memory layout with those of the headers. */
  private checkVersion(folder: string): void {
    const { calls } = this;
    const refuse = (what: string): never => {
      throw new GgmlLibraryError({ what, where: folder, fix: reinstall });
    };
    if (this.version !== headerVersion) refuse(`This is ggml ${this.version}; @graft/ggml needs ${headerVersion}.`);
    const overhead = calls.ggml_tensor_overhead();
    const context = calls.ggml_init({ mem_size: 2 * overhead, mem_buffer: null, no_alloc: true });
    const sizes = [2, 3, 5, 7] as const;
    const tensor = calls.ggml_new_tensor_4d(context, typeCodes.I32, ...sizes);
    const { ne, nb, type } = tensorLayout.offsets;
    const four = (offset: number): string => koffi.decode(tensor, offset, koffi.array('int64_t', 4)).join();
    const found = [four(ne), four(nb), koffi.decode(tensor, type, 'int'), overhead - tensorLayout.bytes];
    const expected = [sizes.join(), '4,8,24,120', typeCodes.I32, objectBytes];
    calls.ggml_free(context);
    if (found.join(' ') !== expected.join(' '))
      refuse(`A tensor of ggml has the layout ${found.join(' ')}; expected ${expected.join(' ')}.`);
  }
}

/** What ggml keeps with each object of a context. */
const objectBytes = 32;
const reinstall = `install the version that @graft/ggml pins, ${packageVersion}.`;

function typeOf(word: string): NativeType {
  const scalars: Record<string, NativeType> = { int64: 'int64_t', size: 'size_t', string: 'str', init_params: initParams as never };
  if (word === 'size*') return koffi.out(koffi.pointer('size_t'));
  return scalars[word] ?? (['int', 'float', 'bool', 'void'].includes(word) ? word : 'void *');
}

const initParams = koffi.struct({ mem_size: 'size_t', mem_buffer: 'void *', no_alloc: 'bool' });

let loaded: Ggml | null = null;

/** The library of this process. @throws GgmlPlatformError, GgmlLibraryError */
export function ggml(): Ggml {
  loaded ??= new Ggml(findLibraries());
  return loaded;
}

/** Loads ggml, and adds the devices of an accelerator. @throws GgmlPlatformError, GgmlLibraryError */
export function loadGgml(accelerator: Accelerator): Ggml {
  const library = ggml();
  if (accelerator !== null) library.add(accelerator);
  return library;
}
