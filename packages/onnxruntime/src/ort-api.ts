import koffi, { type TypeObject } from 'koffi';
import { OrtCallError, OrtLibraryError } from './errors.ts';
import { disableTelemetry, findLibrary, type NativeFunction, openLibrary } from './library.ts';

declare const kind: unique symbol;

/** A pointer to a native object. The brand keeps one kind from being passed for another, which would crash the process. */
export type Handle<Kind extends string> = bigint & { readonly [kind]: Kind };
/** A place for a result: the callee writes into element 0. */
export type Out<Value> = [Value | null];

type Env = Handle<'Env'>;
type Options = Handle<'SessionOptions'>;
type SessionHandle = Handle<'Session'>;
type RunOptionsHandle = Handle<'RunOptions'>;
type ValueHandle = Handle<'Value'>;
type Binding = Handle<'IoBinding'>;
type MemoryInfo = Handle<'MemoryInfo'>;
type Allocator = Handle<'Allocator'>;
type TypeInfo = Handle<'TypeInfo'>;
type TensorInfo = Handle<'TensorInfo'>;
type Threading = Handle<'ThreadingOptions'>;

/** The entries of ONNX Runtime's function table that this package calls. A failed status is thrown as `OrtCallError`. */
export interface OrtCalls {
  CreateEnv(logLevel: number, name: string, out: Out<Env>): void;
  CreateEnvWithGlobalThreadPools(logLevel: number, name: string, threading: Threading, out: Out<Env>): void;
  ReleaseEnv(env: Env): void;
  CreateThreadingOptions(out: Out<Threading>): void;
  SetGlobalIntraOpNumThreads(options: Threading, threads: number): void;
  SetGlobalInterOpNumThreads(options: Threading, threads: number): void;
  SetGlobalSpinControl(options: Threading, allow: number): void;
  ReleaseThreadingOptions(options: Threading): void;

  CreateSessionOptions(out: Out<Options>): void;
  SetOptimizedModelFilePath(options: Options, path: string): void;
  EnableProfiling(options: Options, prefix: string): void;
  DisableMemPattern(options: Options): void;
  SetSessionGraphOptimizationLevel(options: Options, level: number): void;
  SetIntraOpNumThreads(options: Options, threads: number): void;
  DisablePerSessionThreads(options: Options): void;
  AddSessionConfigEntry(options: Options, key: string, value: string): void;
  AddInitializer(options: Options, name: string, value: ValueHandle): void;
  SessionOptionsSetLoadCancellationFlag(options: Options, cancel: boolean): void;
  ReleaseSessionOptions(options: Options): void;

  CreateSessionFromArray(env: Env, bytes: Uint8Array | bigint, byteLength: number, options: Options, out: Out<SessionHandle>): void;
  SessionGetInputCount(session: SessionHandle, out: Out<number | bigint>): void;
  SessionGetOutputCount(session: SessionHandle, out: Out<number | bigint>): void;
  SessionGetInputName(session: SessionHandle, index: number, allocator: Allocator, out: Out<bigint>): void;
  SessionGetOutputName(session: SessionHandle, index: number, allocator: Allocator, out: Out<bigint>): void;
  SessionGetInputTypeInfo(session: SessionHandle, index: number, out: Out<TypeInfo>): void;
  SessionGetOutputTypeInfo(session: SessionHandle, index: number, out: Out<TypeInfo>): void;
  SessionEndProfiling(session: SessionHandle, allocator: Allocator, out: Out<bigint>): void;
  ReleaseSession(session: SessionHandle): void;

  CastTypeInfoToTensorInfo(info: TypeInfo, out: Out<TensorInfo>): void;
  GetTensorElementType(info: TensorInfo, out: Out<number>): void;
  GetDimensionsCount(info: TensorInfo, out: Out<number | bigint>): void;
  GetDimensions(info: TensorInfo, dims: BigInt64Array, count: number): void;
  ReleaseTypeInfo(info: TypeInfo): void;
  ReleaseTensorTypeAndShapeInfo(info: TensorInfo): void;

  CreateTensorWithDataAsOrtValue(
    memory: MemoryInfo,
    pointer: bigint,
    byteLength: number,
    dims: BigInt64Array,
    rank: number,
    type: number,
    out: Out<ValueHandle>,
  ): void;
  ReleaseValue(value: ValueHandle): void;
  CreateCpuMemoryInfo(allocatorType: number, memoryType: number, out: Out<MemoryInfo>): void;
  GetAllocatorWithDefaultOptions(out: Out<Allocator>): void;
  AllocatorFree(allocator: Allocator, pointer: bigint): void;

  CreateIoBinding(session: SessionHandle, out: Out<Binding>): void;
  BindInput(binding: Binding, name: string, value: ValueHandle): void;
  BindOutput(binding: Binding, name: string, value: ValueHandle): void;
  ReleaseIoBinding(binding: Binding): void;

  CreateRunOptions(out: Out<RunOptionsHandle>): void;
  RunOptionsSetTerminate(options: RunOptionsHandle): void;
  RunOptionsUnsetTerminate(options: RunOptionsHandle): void;
  ReleaseRunOptions(options: RunOptionsHandle): void;
  RunWithBinding(session: SessionHandle, options: RunOptionsHandle | null, binding: Binding): void;
}

/** The C types of the arguments: `p` pointer, `s` string, `i` int, `b` int as bool, `z` size_t, `d` int64 array, `O` out pointer, `I` out int, `Z` out size_t. */
type Signature = readonly [index: number, args: string, result?: 'status' | 'nothing'];

/** Indices of the append-only table (API version 1 to 30); an index never changes. */
const signatures: { readonly [Name in keyof OrtCalls]: Signature } = {
  CreateEnv: [3, 'isO'],
  CreateSessionFromArray: [8, 'ppzpO'],
  CreateSessionOptions: [10, 'O'],
  SetOptimizedModelFilePath: [11, 'ps'],
  EnableProfiling: [14, 'ps'],
  DisableMemPattern: [17, 'p'],
  SetSessionGraphOptimizationLevel: [23, 'pi'],
  SetIntraOpNumThreads: [24, 'pi'],
  SessionGetInputCount: [30, 'pZ'],
  SessionGetOutputCount: [31, 'pZ'],
  SessionGetInputTypeInfo: [33, 'pzO'],
  SessionGetOutputTypeInfo: [34, 'pzO'],
  SessionGetInputName: [36, 'pzpO'],
  SessionGetOutputName: [37, 'pzpO'],
  CreateRunOptions: [39, 'O'],
  RunOptionsSetTerminate: [46, 'p'],
  RunOptionsUnsetTerminate: [47, 'p'],
  CreateTensorWithDataAsOrtValue: [49, 'ppzdziO'],
  CastTypeInfoToTensorInfo: [55, 'pO'],
  GetTensorElementType: [60, 'pI'],
  GetDimensionsCount: [61, 'pZ'],
  GetDimensions: [62, 'pdz'],
  CreateCpuMemoryInfo: [69, 'iiO'],
  AllocatorFree: [76, 'pp'],
  GetAllocatorWithDefaultOptions: [78, 'O'],
  ReleaseEnv: [92, 'p', 'nothing'],
  ReleaseSession: [95, 'p', 'nothing'],
  ReleaseValue: [96, 'p', 'nothing'],
  ReleaseRunOptions: [97, 'p', 'nothing'],
  ReleaseTypeInfo: [98, 'p', 'nothing'],
  ReleaseTensorTypeAndShapeInfo: [99, 'p', 'nothing'],
  ReleaseSessionOptions: [100, 'p', 'nothing'],
  SessionEndProfiling: [110, 'ppO'],
  CreateEnvWithGlobalThreadPools: [119, 'ispO'],
  DisablePerSessionThreads: [120, 'p'],
  CreateThreadingOptions: [121, 'O'],
  ReleaseThreadingOptions: [122, 'p', 'nothing'],
  AddSessionConfigEntry: [130, 'pss'],
  RunWithBinding: [133, 'ppp'],
  CreateIoBinding: [134, 'pO'],
  ReleaseIoBinding: [135, 'p', 'nothing'],
  BindInput: [136, 'psp'],
  BindOutput: [137, 'psp'],
  SetGlobalIntraOpNumThreads: [147, 'pi'],
  SetGlobalInterOpNumThreads: [148, 'pi'],
  SetGlobalSpinControl: [149, 'pi'],
  AddInitializer: [150, 'psp'],
  SessionOptionsSetLoadCancellationFlag: [293, 'pb'],
};

const API_VERSION = 30;
const TABLE_ENTRIES = 425;

/** The loaded library: its calls, each of them also off the event loop, and the two objects that live as long as the process. */
export class OrtApi {
  readonly version: string;
  readonly calls: OrtCalls;
  readonly allocator: Handle<'Allocator'>;
  readonly cpuMemory: Handle<'MemoryInfo'>;
  private readonly native: Map<keyof OrtCalls, NativeFunction>;
  private readonly status: StatusReader;

  constructor(path: string) {
    const { table, version } = openTable(path);
    const types = argumentTypes();
    const bind = (index: number, args: string, result: string): NativeFunction =>
      koffi.decode(
        table[index],
        koffi.proto(
          result,
          [...args].map((letter) => types[letter] as TypeObject),
        ),
      );
    this.version = version;
    this.status = new StatusReader(bind(1, 'p', 'int'), bind(2, 'p', 'str'), bind(93, 'p', 'void'));
    this.native = new Map();
    const calls: Record<string, (...args: unknown[]) => void> = {};
    for (const [name, [index, args, result]] of Object.entries(signatures) as [keyof OrtCalls, Signature][]) {
      const fn = bind(index, args, result === 'nothing' ? 'void' : 'void *');
      this.native.set(name, fn);
      calls[name] = result === 'nothing' ? fn : (...given) => this.status.check(name, fn(...given));
    }
    this.calls = calls as unknown as OrtCalls;
    this.allocator = outOf((out: Out<Allocator>) => this.calls.GetAllocatorWithDefaultOptions(out));
    this.cpuMemory = outOf((out: Out<MemoryInfo>) => this.calls.CreateCpuMemoryInfo(1, 0, out)); // OrtArenaAllocator, OrtMemTypeDefault
  }

  /** The same call on a thread of libuv's pool. What its arguments point at must stay alive until the promise settles. */
  callAsync<Name extends keyof OrtCalls>(name: Name, ...args: Parameters<OrtCalls[Name]>): Promise<void> {
    const fn = this.native.get(name) as NativeFunction;
    return new Promise((resolve, reject) => {
      fn.async(...args, (error: unknown, status: bigint | null) => {
        try {
          if (error !== null && error !== undefined) throw error;
          this.status.check(name, status);
          resolve();
        } catch (failure) {
          reject(failure);
        }
      });
    });
  }

  /** Reads a string that ONNX Runtime allocated, and frees it. */
  takeString(pointer: bigint): string {
    const text: string = koffi.decode.string(pointer);
    this.calls.AllocatorFree(this.allocator, pointer);
    return text;
  }
}

/** Turns a failed status into an error and releases it. */
class StatusReader {
  private readonly code: NativeFunction;
  private readonly message: NativeFunction;
  private readonly releaseStatus: NativeFunction;

  constructor(code: NativeFunction, message: NativeFunction, releaseStatus: NativeFunction) {
    this.code = code;
    this.message = message;
    this.releaseStatus = releaseStatus;
  }

  check(call: string, status: bigint | null): void {
    if (status === null) return;
    const error = new OrtCallError(call, this.code(status), this.message(status));
    this.releaseStatus(status);
    throw error;
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

function argumentTypes(): Record<string, unknown> {
  return {
    p: 'void *',
    s: 'str',
    i: 'int',
    b: 'bool',
    z: 'size_t',
    d: 'int64_t *',
    O: koffi.out(koffi.pointer('void *')),
    I: koffi.out(koffi.pointer('int')),
    Z: koffi.out(koffi.pointer('size_t')),
  };
}

/** Calls `call` with an out parameter and gives what it wrote there. */
export function outOf<Value>(call: (out: Out<Value>) => void): Value {
  const out: Out<Value> = [null];
  call(out);
  return out[0] as Value;
}

let loaded: OrtApi | null = null;

/**
 * The library, loaded at the first call.
 * @throws OrtPlatformError, OrtLibraryError
 */
export function ortApi(): OrtApi {
  loaded ??= new OrtApi(findLibrary());
  return loaded;
}
