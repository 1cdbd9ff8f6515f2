/**
 * A kernel is WGSL text, its storage bindings in order, its uniforms and its compile-time constants. The prelude built
 * here declares what every kernel shares, so a .wgsl file holds only its own bindings and body:
 *
 * - one `alias` family per entry of `types`: `types: { X: "f16" }` gives `X`, `X2` and `X4` (f16, vec2<f16>, vec4<f16>);
 * - `const NAME = 12u;` (or a float where the value is written as `f32(…)`) per entry of `constants`;
 * - `struct Params` and `params`, bound after the last storage binding, from `uniforms`;
 * - `fn group_index(wg, count)`: the workgroup's index in a grid folded over x and y by `gridFor`.
 */

/** Scalar type of a uniform. */
export type UniformType = "u32" | "i32" | "f32";

/** Element type that a kernel may be specialized for. */
export type ScalarType = "f32" | "f16" | "u32";

/** Everything that makes a pipeline. */
export interface KernelSpec {
  /** WGSL without prelude; entry point `main`. */
  readonly code: string;
  /** Access of the storage bindings 0, 1, 2 … in order. */
  readonly bindings: readonly ("read" | "write")[];
  /** Fields of `params`, in order. */
  readonly uniforms?: Readonly<Record<string, UniformType>>;
  /** Compile-time constants: numbers become u32; `{ f32: x }` becomes f32. */
  readonly constants?: Readonly<Record<string, number | { readonly f32: number }>>;
  /** Type aliases by name. */
  readonly types?: Readonly<Record<string, ScalarType>>;
  /** WGSL extensions beyond f16 (which is enabled where a type asks for it). */
  readonly enable?: readonly string[];
  /** WGSL `diagnostic(...)` directives. */
  readonly diagnostics?: readonly string[];
}

/** How a kernel is asked for. */
export interface KernelOptions {
  /**
   * False: `make` is called for the first of a key alone, and a later one that differs is not seen. For texts that take
   * longer to write than the rest of a dispatch, under keys that nobody else takes. Default true.
   */
  readonly compare?: boolean;
}

/** Of kernels whose text takes long to write (20 us on average, at some hundred dispatches a block). */
export const LONG_TEXT: KernelOptions = { compare: false };

/** A float literal that WGSL reads back to the same f32. */
export function wgslFloat(value: number): string {
  if (!Number.isFinite(value)) throw new RangeError(`WGSL has no literal for ${value}`);
  const text = String(Math.fround(value));
  return /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
}

/**
 * Slots of `gradState` [4] f32, which `gradNorm` writes and optimizers read, under torch's names; kernels that mention it have
 * these constants. CLIP_COEF unscales and clips a gradient, FOUND_INF is 1 where the step must be skipped.
 */
export const GRAD_STATE = { CLIP_COEF: 0, FOUND_INF: 1, TOTAL_NORM: 2 } as const;

/** The whole WGSL module of a kernel: directives, prelude, body. */
export function moduleText(spec: KernelSpec): string {
  const types = Object.entries(spec.types ?? {});
  const enables = new Set(spec.enable ?? []);
  if (types.some(([, type]) => type === "f16")) enables.add("f16");
  const uniforms = Object.entries(spec.uniforms ?? {});
  const lines = [
    ...(spec.diagnostics ?? []).map((d) => `diagnostic(${d});`),
    ...[...enables].map((name) => `enable ${name};`),
    ...types.map(
      ([name, type]) => `alias ${name} = ${type}; alias ${name}2 = vec2<${type}>; alias ${name}4 = vec4<${type}>;`,
    ),
    ...Object.entries(spec.constants ?? {}).map(([name, value]) =>
      typeof value === "number" ? `const ${name} = ${value}u;` : `const ${name} = ${wgslFloat(value.f32)};`,
    ),
  ];
  if (uniforms.length > 0) {
    lines.push(
      `struct Params { ${uniforms.map(([name, type]) => `${name}: ${type}`).join(", ")} }`,
      `@group(0) @binding(${spec.bindings.length}) var<uniform> params: Params;`,
    );
  }
  if (spec.code.includes("gradState")) {
    lines.push(...Object.entries(GRAD_STATE).map(([name, slot]) => `const ${name} = ${slot}u;`));
  }
  lines.push("fn group_index(wg: vec3<u32>, count: vec3<u32>) -> u32 { return wg.x + wg.y * count.x; }");
  return `${lines.join("\n")}\n${spec.code}`;
}

/**
 * Workgroups `[x, y, 1]` that cover `groups`, folded where x would pass 65,535; the kernel drops the excess itself.
 * @example gridFor(5000 / 256) // [20, 1, 1]
 */
export function gridFor(groups: number): readonly [number, number, number] {
  const count = Math.max(1, Math.ceil(groups));
  if (count <= 65535) return [count, 1, 1];
  const y = Math.ceil(count / 65535);
  return [Math.ceil(count / y), y, 1];
}
