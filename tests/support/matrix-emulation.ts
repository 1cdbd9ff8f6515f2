import { Gpu } from "../../core/device/gpu.ts";
import type { KernelSpec } from "../../core/device/kernel.ts";
import type { MatrixUnit } from "../../kernels/matmul-matrix/index.ts";

interface Source {
  readonly name: string;
  /** Element type of the array, which offsets and strides count. */
  readonly element: string;
}

/** f32 elements that one array element holds when its bits are read as `type`. */
function perElement(element: string, type: "f16" | "f32"): number {
  const bytes = element.startsWith("vec4") ? 16 : 4;
  return bytes / (type === "f16" ? 2 : 4);
}

function word({ name, element }: Source, index: string): string {
  if (element === "f32") return `bitcast<u32>(${name}[${index}])`;
  if (element === "vec4<u32>") return `${name}[(${index}) / 4u][(${index}) % 4u]`;
  throw new Error(`no emulation for arrays of ${element}`);
}

/** Neighbouring results that a lane owns, and lanes that share a row. */
function share({ m, n, lanes }: MatrixUnit): { width: number; perRow: number } {
  const perRow = lanes / m;
  return { width: n / perRow, perRow };
}

type Kind = "left" | "right" | "result";

/** Where element i of a lane's part lies in its matrix, as row and column. */
function place(kind: Kind, unit: MatrixUnit): { count: number; row: string; column: string } {
  const { width, perRow } = share(unit);
  if (kind === "left") return { count: unit.k, row: `lane / ${perRow}u`, column: "i" };
  const column = `lane % ${perRow}u * ${width}u + i % ${width}u`;
  if (kind === "right") return { count: unit.k * width, row: `i / ${width}u`, column };
  return { count: width, row: `lane / ${perRow}u`, column };
}

/** Vectors of `V` hold a lane's neighboring columns; element i of an array of them. */
function element(unit: MatrixUnit, kind: Kind): { vector: number; at: string } {
  const vector = kind === "left" ? 1 : Math.min(4, share(unit).width);
  return { vector, at: vector === 1 ? "m.e[i]" : `m.e[i / ${vector}u][i % ${vector}u]` };
}

function loader(
  name: string,
  source: Source,
  kind: Kind,
  type: "f16" | "f32",
  unit: MatrixUnit,
  major: string,
): string {
  const per = perElement(source.element, type);
  const { count, row, column } = place(kind, unit);
  const at = major === "row_major" ? `(${row}) * stride + ${column}` : `(${column}) * stride + ${row}`;
  const { at: to } = element(unit, kind);
  const read =
    type === "f16"
      ? `let pair = unpack2x16float(${word(source, "at / 2u")}); ${to} = select(pair.x, pair.y, at % 2u == 1u);`
      : `${to} = bitcast<f32>(${word(source, "at")});`;
  return `fn ${name}(m: ptr<function, Matrix_${kind}>, lane: u32, offset: u32, elements: u32) {
  let stride = elements * ${per}u;
  for (var i = 0u; i < ${count}u + unknown(); i++) {
    let at = offset * ${per}u + ${at};
    ${read}
  }
}`;
}

function storer(name: string, source: Source, unit: MatrixUnit, major: string): string {
  const per = perElement(source.element, "f32");
  const { count, row, column } = place("result", unit);
  const at = major === "row_major" ? `(${row}) * stride + ${column}` : `(${column}) * stride + ${row}`;
  const { at: from } = element(unit, "result");
  const write =
    source.element === "f32"
      ? `${source.name}[at] = ${from};`
      : `${source.name}[at / 4u][at % 4u] = bitcast<u32>(${from});`;
  return `fn ${name}(lane: u32, offset: u32, m: ptr<function, Matrix_result>, elements: u32) {
  let stride = elements * ${per}u;
  for (var i = 0u; i < ${count}u + unknown(); i++) {
    let at = offset * ${per}u + ${at};
    ${write}
  }
}`;
}

/** The spec with its subgroup matrices replaced. */
export function emulate(spec: KernelSpec, unit: MatrixUnit): KernelSpec {
  if (!(spec.enable ?? []).includes("chromium_experimental_subgroup_matrix")) return spec;
  const { m, n, k } = unit;
  const functions = new Map<string, string>();
  const sourceOf = (name: string): Source => {
    const element = new RegExp(`> ${name}: array<([^;]*?)(?:, \\d+)?>;`).exec(spec.code)?.[1];
    if (element === undefined) throw new Error(`no array ${name}`);
    return { name, element };
  };
  const code = spec.code
    .replace(
      /(\w+) = subgroupMatrixLoad<subgroup_matrix_(left|right|result)<(f16|f32), (\d+), (\d+)>, (row_major|col_major)>\(&(\w+), /g,
      (
        _,
        target: string,
        kind: string,
        type: "f16" | "f32",
        columns: string,
        rows: string,
        major: string,
        array: string,
      ) => {
        const want = { left: [k, m], right: [n, k], result: [n, m] }[kind];
        if (want?.join() !== `${columns},${rows}`) throw new Error(`${kind} matrix of ${columns} x ${rows}`);
        const name = `load_${kind}_${major}_${array}`;
        functions.set(name, loader(name, sourceOf(array), kind as Kind, type, unit, major));
        return `${name}(&${target}, lane, `;
      },
    )
    .replace(
      /subgroupMatrixStore<(row_major|col_major)>\(&(\w+), (.*), (\w+), (\w+)\);/g,
      (_, major: string, array: string, at: string, sum: string, stride: string) => {
        const name = `store_${major}_${array}`;
        functions.set(name, storer(name, sourceOf(array), unit, major));
        return `${name}(lane, ${at}, &${sum}, ${stride});`;
      },
    )
    .replace(/\w+ = subgroupMatrixMultiplyAccumulate\((\w+), (\w+), (\w+)\)/g, "multiply_accumulate(&$1, &$2, &$3)")
    .replace(/subgroup_matrix_(left|right|result)<[^>]*>/g, "Matrix_$1");
  const { vector } = element(unit, "result");
  const vectors = share(unit).width / vector;
  const type = vector === 1 ? "f32" : `vec${vector}<f32>`;
  const support = `struct Matrix_left { e: array<f32, ${k}> }
struct Matrix_right { e: array<${type}, ${k * vectors}> }
struct Matrix_result { e: array<${type}, ${vectors}> }
// Zero, but no compiler knows: unrolled loops would take minutes to compile.
fn unknown() -> u32 { return params.rows >> 31u; }
fn multiply_accumulate(a: ptr<function, Matrix_left>, b: ptr<function, Matrix_right>, sum: ptr<function, Matrix_result>) {
  for (var i = 0u; i < ${k}u + unknown(); i++) {
    ${Array.from({ length: vectors }, (_, q) => `sum.e[${q}] += a.e[i] * b.e[i * ${vectors}u + ${q}u];`).join(" ")}
  }
}
${[...functions.values()].join("\n")}
`;
  if (/subgroupMatrix|subgroup_matrix/.test(code)) throw new Error("a subgroup matrix was left over");
  // Other subgroup functions stay: what they exchange must lie within the 8 lanes of a software device.
  const enable = /subgroup[A-Z]/.test(code) ? ["f16", "subgroups"] : ["f16"];
  return { ...spec, code: support + code, enable, diagnostics: [] };
}

/** A device of tier `matrix` on top of one that has f16 but no subgroup matrices. */
export function emulatedMatrixGpu(gpu: Gpu, unit: MatrixUnit): Gpu {
  const { m, n, k, lanes } = unit;
  const shape = { m, n, k, component: "f16", result: "f32" };
  const capabilities = { ...gpu.info.capabilities, subgroupSize: lanes, matrixShapes: [shape] };
  const emulated = new Gpu(gpu.device, { ...gpu.info, tier: "matrix", capabilities });
  const compile = emulated.kernel.bind(emulated);
  emulated.kernel = (key, make) => compile(key, () => emulate(make(), unit));
  emulated.poison = true;
  return emulated;
}
