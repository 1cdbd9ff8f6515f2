/** Sizes of memory as text. */

const FACTORS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes of `24GiB`, `24 GB`, `512MiB` or a plain number of bytes; undefined where it is none of them. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  if (match === null) return undefined;
  const factor = FACTORS[match[2] === "" ? "b" : match[2]!.toLowerCase()];
  const bytes = factor === undefined ? 0 : Math.floor(Number(match[1]) * factor);
  return bytes > 0 ? bytes : undefined;
}

/** `7.26 GiB`, however few or many: figures of a line or a table in one unit. */
export const formatGib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

/** Bytes in binary units, as device tools show them: `7.26 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 28) return formatGib(bytes);
  if (bytes > 0 && bytes < 0.05 * 2 ** 20) return `${bytes} bytes`; // not 0.0 MiB
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
