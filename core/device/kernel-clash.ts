/** Two kernels under one key: how they are told apart, and the error that names both. */
import { DeviceError } from "../errors.ts";
import type { KernelSpec } from "./kernel.ts";

/** The first part in which two specs differ, with what each has there; undefined where they are the same. */
export function specDifference(a: KernelSpec, b: KernelSpec): string | undefined {
  if (a === b) return undefined;
  if (a.code !== b.code) return codeDifference(a.code, b.code);
  for (const part of ["bindings", "enable", "diagnostics"] as const) {
    const [one, other] = [a[part] ?? [], b[part] ?? []];
    if (one !== other && one.join() !== other.join()) return `${part} ${list(one)} and ${list(other)}`;
  }
  for (const part of ["uniforms", "constants", "types"] as const) {
    const [one, other] = [a[part] ?? {}, b[part] ?? {}];
    if (one !== other && entries(one) !== entries(other)) return `${part} ${entries(one)} and ${entries(other)}`;
  }
  return undefined;
}

const list = (names: readonly string[]): string => `[${names.join(", ")}]`;

function entries(values: Readonly<Record<string, number | string | { readonly f32: number }>>): string {
  let text = "";
  for (const key in values) {
    const value = values[key]!;
    text += `${text === "" ? "" : ", "}${key}: ${typeof value === "object" ? `f32 ${value.f32}` : value}`;
  }
  return `{ ${text} }`;
}

function codeDifference(a: string, b: string): string {
  const [one, other] = [a.split("\n"), b.split("\n")];
  const line = one.findIndex((text, i) => text !== other[i]);
  const at = line < 0 ? one.length : line;
  const show = (lines: readonly string[]): string => JSON.stringify((lines[at] ?? "").trim().slice(0, 80));
  return `code, at line ${at + 1} ${show(one)} and ${show(other)}`;
}

/** Where a kernel is asked for: the file and line of the innermost caller outside this folder, where the host tells. */
export function kernelSite(): string | undefined {
  const frames = (new Error().stack ?? "")
    .split("\n")
    .map((line) => /\(?([^\s()]+:\d+):\d+\)?$/.exec(line.trim())?.[1]);
  return frames.find((frame) => frame !== undefined && !OWN.test(frame))?.replace(/^file:\/\//, "");
}

/** This file, `Gpu` and `Kernels`, as source and as built. */
const OWN = /core[\\/]device[\\/](?:gpu|pipelines|kernel-clash)\.(?:ts|js):/;

/** The error of a key under which two kernels were asked for. */
export function keyClash(
  key: string,
  difference: string,
  first: string | undefined,
  second: string | undefined,
): DeviceError {
  const at = (site: string | undefined): string => (site === undefined ? "" : ` of ${site}`);
  return new DeviceError(
    "KERNEL_KEY_CLASH",
    `two kernels have the key "${key}": the one${at(first)} and the one${at(second)} differ in ${difference}`,
    {
      hint: "A key names all that a kernel depends on: begin it with the plugin's name, and add what its text, constants and types are chosen by.",
    },
  );
}
