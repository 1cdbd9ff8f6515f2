/** WGSL text that lets one kernel body run on vectors of four or, where a size is odd, on scalars. */

/** Elements of one load. */
export type Width = 1 | 4;

/** 4 where every one of these sizes is a multiple of four, else 1. */
export function widthOf(...sizes: readonly number[]): Width {
  return sizes.every((size) => size % 4 === 0) ? 4 : 1;
}

/**
 * Declares `const WIDTH`, `FV` (f32 vector of that width), `fn sum(v: FV) -> f32`, and for each name of the spec's
 * `types` its vector: `X` gives `XV`.
 */
export function vectorSource(width: Width, ...names: readonly string[]): string {
  const suffix = width === 4 ? "4" : "";
  return [
    `const WIDTH = ${width}u;`,
    ...names.map((name) => `alias ${name}V = ${name}${suffix};`),
    width === 4
      ? "alias FV = vec4<f32>; fn sum(v: FV) -> f32 { return (v.x + v.y) + (v.z + v.w); }"
      : "alias FV = f32; fn sum(v: FV) -> f32 { return v; }",
    "",
  ].join("\n");
}

/**
 * The input of an elementwise kernel whose output is `var<storage, read_write> y: array<XV>`, read by `fn load(i)`:
 * `y` itself, or a tensor `x` of its own at `binding`.
 */
export function sourceOrInPlace(inPlace: boolean, binding: number): string {
  return inPlace
    ? "fn load(i: u32) -> FV { return FV(y[i]); }\n"
    : `@group(0) @binding(${binding}) var<storage, read> x: array<XV>;\nfn load(i: u32) -> FV { return FV(x[i]); }\n`;
}
