/**
 * The two bindings of Dawn and every quirk of theirs that qlora knows of. Nothing outside this folder imports them.
 */
import type { Provider } from "../../core/device/probe.ts";
import { isSoftware } from "../../core/device/software.ts";
import { DeviceError } from "../../core/errors.ts";
import { hostName, hostTitle } from "../host.ts";
import { addPackage, reasonOf } from "../packages.ts";

/** Dawn toggles wanted from the `webgpu` binding. */
export interface ProviderOptions {
  /** Keep the driver's bounds checks. Off is 4-8 % faster in matrix products; only `webgpu` can turn them off. */
  readonly robustness: boolean;
}

const NO_DRIVER =
  "Install a Vulkan driver: your GPU vendor's, or Mesa >= 23 for a software one (Debian: mesa-vulkan-drivers).";

const instances = new Map<string, GPU>();

/** Dawn's own binding crashes when its instance is collected, so instances live as long as the process. */
async function instance(provider: Provider, options: ProviderOptions): Promise<GPU> {
  const key = `${provider}/${String(options.robustness)}`;
  const known = instances.get(key);
  if (known !== undefined) return known;
  let made: GPU;
  if (provider === "bun-webgpu") {
    // Its Dawn prints two notes about limits to stderr when asked for an adapter; they are harmless.
    const { createGPUInstance, globalConstructors } = await import("bun-webgpu");
    installGlobals(globalConstructors);
    made = createGPUInstance();
  } else {
    const { create, globals } = await import("webgpu");
    installGlobals(globals);
    const toggles = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];
    if (!options.robustness) toggles.push("disable_robustness");
    made = create([
      `enable-dawn-features=${toggles.join(",")}`,
      "disable-dawn-features=timestamp_quantization",
      ...(process.platform === "linux" ? ["backend=vulkan"] : []),
    ]);
  }
  instances.set(key, made);
  return made;
}

/** Constructors such as GPUValidationError, which the bindings look up globally; the first binding's stay. */
function installGlobals(constructors: object): void {
  for (const [name, value] of Object.entries(constructors)) {
    if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
}

const BACKENDS: Partial<Record<NodeJS.Platform, string>> = { linux: "Vulkan", darwin: "Metal", win32: "D3D12" };

/**
 * The best hardware (or software) adapter of a provider; never the Null backend.
 * @throws DeviceError where the binding cannot be loaded or finds no driver
 */
export async function requestAdapter(provider: Provider, options: ProviderOptions): Promise<GPUAdapter> {
  if (provider === "bun-webgpu" && !options.robustness) {
    throw new DeviceError("ROBUSTNESS_FIXED", "bun-webgpu cannot turn off bounds checks", {
      hint: "Use --gpu webgpu.",
    });
  }
  if (provider === "bun-webgpu" && hostName !== "bun") {
    throw new DeviceError(
      "PROVIDER_UNAVAILABLE",
      `the WebGPU binding bun-webgpu runs in Bun alone, this is ${hostTitle}`,
      {
        hint: 'Use gpu: "webgpu", or "auto", which takes it here.',
      },
    );
  }
  process.env["XDG_RUNTIME_DIR"] ??= "/tmp"; // silences a warning of the Vulkan loader
  let gpu: GPU;
  try {
    gpu = await instance(provider, options);
  } catch (cause) {
    throw new DeviceError(
      "PROVIDER_UNAVAILABLE",
      `the WebGPU binding ${provider} does not load on this platform: ${reasonOf(cause)}`,
      {
        hint:
          provider === "webgpu"
            ? `Add the package webgpu, which an installation without optional packages lacks (${addPackage("webgpu")})${hostName === "bun" ? ", or use --gpu bun-webgpu" : ""}.`
            : "Use --gpu webgpu, or reinstall the packages.",
        cause,
      },
    );
  }
  const request = {
    powerPreference: "high-performance",
    backendType: BACKENDS[process.platform],
  } as GPURequestAdapterOptions;
  const adapter = await holding(() => gpu.requestAdapter(request)).catch((cause: unknown) => {
    throw new DeviceError("NO_ADAPTER", `${provider} found no ${BACKENDS[process.platform] ?? "GPU"} driver`, {
      hint: NO_DRIVER,
      cause,
    });
  });
  if (adapter === null || /null/i.test(`${adapter.info.description} ${adapter.info.device}`)) {
    throw new DeviceError("NO_ADAPTER", `${provider} found no ${BACKENDS[process.platform] ?? "GPU"} driver`, {
      hint: NO_DRIVER,
    });
  }
  if (provider === "bun-webgpu" && isSoftware(adapter.info)) restBetweenTicks(gpu);
  return adapter;
}

/** What bun-webgpu asks Dawn with while a caller waits. */
export interface Ticker {
  register(): void;
  scheduleTick(): void;
  hasWaiting(): boolean;
  processEvents(): void;
}

/** A readback that takes less than this is waited for without a rest. */
const SPIN_MS = 1;
const rested = new WeakSet<Ticker>();

/**
 * bun-webgpu asks Dawn whether work is done as often as the event loop turns, which takes a whole core: with a software driver
 * one of those that compute. After a while it is asked once a millisecond.
 */
export function restBetweenTicks(gpu: object): void {
  const { _ticker: ticker } = gpu as { readonly _ticker?: Ticker };
  if (ticker === undefined || rested.has(ticker)) return;
  rested.add(ticker);
  let began = 0;
  let ticking = false;
  const tick = (): void => {
    ticker.processEvents();
    ticking = false;
    if (ticker.hasWaiting()) ticker.scheduleTick();
  };
  ticker.scheduleTick = () => {
    if (ticking) return;
    ticking = true;
    if (performance.now() - began < SPIN_MS) setImmediate(tick);
    else setTimeout(tick, 1);
  };
  const register = ticker.register.bind(ticker);
  ticker.register = () => {
    began = performance.now();
    register();
  };
}

/** Adapters and devices are few; one that is collected while its library still calls back crashes the process. */
const held: unknown[] = [];

const WANTED = ["shader-f16", "subgroups", "timestamp-query", "chromium-experimental-subgroup-matrix"];

/**
 * bun-webgpu packs what a call is given into buffers, writes the addresses of some into others, and lets go of them all.
 * One that is collected before Dawn reads it is read as garbage: a shader of zeros, a feature that does not exist. It makes a
 * DataView of every struct and list as soon as it is allocated, and encodes every string: both are watched during `call`, and
 * what they were given or made is held until it returns.
 */
function holding<T>(call: () => T): T {
  const { DataView: View, TextEncoder: Encoder } = globalThis;
  // oxlint-disable-next-line typescript/unbound-method -- called with its `this`
  const { encode } = Encoder.prototype;
  const kept: unknown[] = [];
  globalThis.DataView = new Proxy(View, {
    construct(target, given: ConstructorParameters<typeof View>) {
      kept.push(given[0]);
      return new target(...given);
    },
  });
  Encoder.prototype.encode = function (text) {
    const bytes = encode.call(this, text);
    kept.push(bytes);
    return bytes;
  };
  try {
    return call();
  } finally {
    globalThis.DataView = View;
    Encoder.prototype.encode = encode;
    kept.length = 0; // used after the call, so that nothing in it is thought dead before
  }
}

/** Makes methods hold what they encode. */
function holdIn<K extends string>(object: Readonly<Record<K, unknown>>, ...names: K[]): void {
  const methods = object as Record<string, (descriptor: unknown) => unknown>;
  for (const name of names) {
    const method = methods[name]!.bind(object);
    methods[name] = (descriptor) => holding(() => method(descriptor));
  }
}

/** Every call of a device that packs lists, structs within structs or strings. */
function holdEncoded(device: GPUDevice): void {
  holdIn(
    device,
    "createBindGroup",
    "createBindGroupLayout",
    "createBuffer",
    "createComputePipeline",
    "createPipelineLayout",
    "createShaderModule",
  );
  const create = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    const encoder = create(descriptor);
    holdIn(encoder, "beginComputePass");
    return encoder;
  };
}

/**
 * A device with every feature that qlora can use and the adapter's own limits.
 * @throws DeviceError where the adapter gives none
 */
export async function requestDevice(provider: Provider, adapter: GPUAdapter): Promise<GPUDevice> {
  const requiredLimits: Record<string, number> = {};
  // bun-webgpu takes limits only all together, so every numeric limit is passed to both.
  for (const name of limitNames(adapter.limits)) {
    const value = (adapter.limits as unknown as Record<string, number>)[name];
    if (typeof value === "number") requiredLimits[name] = value;
  }
  const requiredFeatures = WANTED.filter((name) => adapter.features.has(name)) as GPUFeatureName[];
  const device = await holding((): Promise<GPUDevice | null> =>
    adapter.requestDevice({ requiredFeatures, requiredLimits }),
  );
  if (device === null) {
    throw new DeviceError("DEVICE_REFUSED", "the adapter gave no device", {
      hint: "Try the other provider with --gpu.",
    });
  }
  held.push(adapter, device);
  if (provider === "bun-webgpu") holdEncoded(device);
  return device;
}

function limitNames(limits: GPUSupportedLimits): Set<string> {
  const names = new Set(Object.keys(limits));
  for (
    let proto: object | null = Object.getPrototypeOf(limits);
    proto !== null && proto !== Object.prototype;
    proto = Object.getPrototypeOf(proto)
  ) {
    for (const name of Object.getOwnPropertyNames(proto)) if (/^(max|min)/.test(name)) names.add(name);
  }
  return names;
}

let nullDevice: Promise<GPUDevice> | undefined;

/** A device of Dawn's Null backend: it validates WGSL, subgroup matrices included, and computes nothing. */
export function openNullDevice(): Promise<GPUDevice> {
  return (nullDevice ??= makeNullDevice());
}

async function makeNullDevice(): Promise<GPUDevice> {
  const { create, globals } = await import("webgpu");
  installGlobals(globals);
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new DeviceError("NO_ADAPTER", "the binding webgpu has no Null backend on this platform");
  const device = await adapter.requestDevice({
    requiredFeatures: WANTED.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
  });
  held.push(gpu, adapter, device);
  return device;
}
