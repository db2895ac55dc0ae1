import { type NativeFunction, openLibrary } from '@graft/system';
import koffi from 'koffi';
import { OrtCallError, OrtLibraryError } from './errors.ts';
import { disableTelemetry, findLibrary } from './library.ts';

declare const kind: unique symbol;

/** A pointer to a native object. Its type names the kind, because passing the wrong kind crashes the process. */
export type Handle<Kind extends string> = bigint & { readonly [kind]: Kind };
/** An out parameter: the callee writes into element 0. */
export type Out<Value> = [Value | null];

/**
 * The entries of ONNX Runtime's function table that this package calls: the index in the table (append-only, so that it never changes) and the arguments.
 * A capitalised word is a handle, a `*` an out parameter, the other words are in `argumentTypes`. Calls that release something return nothing; the others
 * return a status, and a failed one is thrown as `OrtCallError`.
 */
const signatures = {
  CreateEnv: [3, 'int string Env*'],
  CreateSessionFromArray: [8, 'Env pointer size SessionOptions Session*'],
  CreateSessionOptions: [10, 'SessionOptions*'],
  SetOptimizedModelFilePath: [11, 'SessionOptions string'],
  EnableProfiling: [14, 'SessionOptions string'],
  DisableMemPattern: [17, 'SessionOptions'],
  SetSessionGraphOptimizationLevel: [23, 'SessionOptions int'],
  SetIntraOpNumThreads: [24, 'SessionOptions int'],
  SessionGetInputCount: [30, 'Session size*'],
  SessionGetOutputCount: [31, 'Session size*'],
  SessionGetInputName: [36, 'Session size Allocator pointer*'],
  SessionGetOutputName: [37, 'Session size Allocator pointer*'],
  CreateRunOptions: [39, 'RunOptions*'],
  RunOptionsSetTerminate: [46, 'RunOptions'],
  CreateTensorWithDataAsOrtValue: [49, 'MemoryInfo pointer size dims size int Value*'],
  CreateCpuMemoryInfo: [69, 'int int MemoryInfo*'],
  AllocatorFree: [76, 'Allocator pointer'],
  GetAllocatorWithDefaultOptions: [78, 'Allocator*'],
  ReleaseEnv: [92, 'Env'],
  ReleaseSession: [95, 'Session'],
  ReleaseValue: [96, 'Value'],
  ReleaseRunOptions: [97, 'RunOptions'],
  ReleaseSessionOptions: [100, 'SessionOptions'],
  SessionEndProfiling: [110, 'Session Allocator pointer*'],
  CreateEnvWithGlobalThreadPools: [119, 'int string ThreadingOptions Env*'],
  DisablePerSessionThreads: [120, 'SessionOptions'],
  CreateThreadingOptions: [121, 'ThreadingOptions*'],
  ReleaseThreadingOptions: [122, 'ThreadingOptions'],
  AddSessionConfigEntry: [130, 'SessionOptions string string'],
  RunWithBinding: [133, 'Session RunOptions IoBinding'],
  CreateIoBinding: [134, 'Session IoBinding*'],
  ReleaseIoBinding: [135, 'IoBinding'],
  BindInput: [136, 'IoBinding string Value'],
  BindOutput: [137, 'IoBinding string Value'],
  SetGlobalIntraOpNumThreads: [147, 'ThreadingOptions int'],
  SetGlobalInterOpNumThreads: [148, 'ThreadingOptions int'],
  SetGlobalSpinControl: [149, 'ThreadingOptions int'],
  AddInitializer: [150, 'SessionOptions string Value'],
  SessionOptionsSetLoadCancellationFlag: [293, 'SessionOptions bool'],
} as const satisfies Record<string, readonly [index: number, args: string]>;

interface ArgumentTypes {
  int: number;
  bool: boolean;
  size: number;
  string: string;
  pointer: bigint;
  dims: BigInt64Array;
  'size*': Out<number | bigint>;
  'pointer*': Out<bigint>;
}

type NativeType = string | ReturnType<typeof koffi.out>;

const argumentTypes = (): Record<string, NativeType> => ({
  int: 'int',
  bool: 'bool',
  size: 'size_t',
  string: 'str',
  dims: 'int64_t *',
  'size*': koffi.out(koffi.pointer('size_t')),
});

type Argument<Word extends string> = Word extends keyof ArgumentTypes
  ? ArgumentTypes[Word]
  : Word extends `${infer Kind}*`
    ? Out<Handle<Kind>>
    : Handle<Word>;
type Arguments<Words extends string> = Words extends `${infer Word} ${infer Rest}`
  ? [Argument<Word>, ...Arguments<Rest>]
  : [Argument<Words>];
type OrtCalls = { readonly [Name in keyof typeof signatures]: (...args: Arguments<(typeof signatures)[Name][1]>) => void };

const API_VERSION = 30;
const TABLE_ENTRIES = 425;

/** The loaded library, and the two objects of it that live as long as the process. */
export class OrtApi {
  readonly version: string;
  readonly calls: OrtCalls;
  readonly allocator: Handle<'Allocator'>;
  readonly cpuMemory: Handle<'MemoryInfo'>;
  private readonly native = new Map<string, NativeFunction>();
  /** Throws a failed status as an error and releases it. */
  private readonly check: (call: string, status: bigint | null) => void;

  constructor(path: string) {
    const { table, version } = openTable(path);
    const types = argumentTypes();
    const out = koffi.out(koffi.pointer('void *'));
    const typeOf = (word: string): NativeType => types[word] ?? (word.endsWith('*') ? out : 'void *');
    const bind = (index: number, args: string, result: string): NativeFunction =>
      koffi.decode(table[index], koffi.proto(result, args.split(' ').map(typeOf)));
    this.version = version;
    const [code, message, release] = [bind(1, 'Status', 'int'), bind(2, 'Status', 'str'), bind(93, 'Status', 'void')];
    this.check = (call, status) => {
      if (status === null) return;
      const error = new OrtCallError(call, code(status), message(status));
      release(status);
      throw error;
    };
    const calls: Record<string, (...args: unknown[]) => void> = {};
    for (const [name, [index, args]] of Object.entries(signatures)) {
      const releases = name.startsWith('Release');
      const fn = bind(index, args, releases ? 'void' : 'void *');
      this.native.set(name, fn);
      calls[name] = releases ? fn : (...given) => this.check(name, fn(...given));
    }
    this.calls = calls as unknown as OrtCalls;
    this.allocator = outOf((result) => this.calls.GetAllocatorWithDefaultOptions(result));
    this.cpuMemory = outOf((result) => this.calls.CreateCpuMemoryInfo(1, 0, result)); // OrtArenaAllocator, OrtMemTypeDefault
  }

  /** The same call on a thread of libuv's pool. The memory behind its arguments must stay alive until the promise settles. */
  callAsync<Name extends keyof OrtCalls>(name: Name, ...args: Parameters<OrtCalls[Name]>): Promise<void> {
    const fn = this.native.get(name) as NativeFunction;
    return new Promise((resolve, reject) => {
      fn.async(...args, (error: unknown, status: bigint | null) => {
        try {
          if (error !== null && error !== undefined) throw error;
          this.check(name, status);
          resolve();
        } catch (failure) {
          reject(failure);
        }
      });
    });
  }

  /** Reads the string that `call` allocates, and frees it. */
  takeString(call: (out: Out<bigint>) => void): string {
    const pointer = outOf(call);
    const text: string = koffi.decode.string(pointer);
    this.calls.AllocatorFree(this.allocator, pointer);
    return text;
  }
}

function openTable(path: string): { table: bigint[]; version: string } {
  disableTelemetry(); // before the library's first code runs
  const getApiBase = openLibrary(path).func('OrtGetApiBase', 'void *', []);
  const [getApiPointer, getVersionPointer] = koffi.decode(getApiBase(), koffi.array('void *', 2)) as [bigint, bigint];
  const version: string = koffi.decode(getVersionPointer, koffi.proto('str', []))();
  const api: bigint | null = koffi.decode(getApiPointer, koffi.proto('void *', ['uint32_t']))(API_VERSION);
  if (api === null) {
    throw new OrtLibraryError({
      what: `ONNX Runtime ${version} does not offer version ${API_VERSION} of its C API.`,
      where: path,
      fix: 'install onnxruntime-node 1.30.0 or newer.',
    });
  }
  return { table: koffi.decode(api, koffi.array('void *', TABLE_ENTRIES)), version };
}

/** Calls `call` with an out parameter and returns the value written to it. */
export function outOf<Value>(call: (out: Out<Value>) => void): Value {
  const out: Out<Value> = [null];
  call(out);
  return out[0] as Value;
}

let loaded: OrtApi | null = null;

/**
 * The library, loaded at the first call.
 * @throws OrtPlatformError, OrtLibraryError, NativeLibraryError
 */
export function ortApi(): OrtApi {
  loaded ??= new OrtApi(findLibrary());
  return loaded;
}
