/** Axes: where a value lies between 0 and 1, and which ticks a reader sees. */
import { formatCount, formatPercent, formatRate, type NumberFormat } from "./format.ts";

/** One axis. */
export interface Scale {
  readonly kind: "linear" | "log";
  readonly low: number;
  readonly high: number;
  readonly ticks: readonly number[];
  /** How ticks are written. */
  readonly label: NumberFormat;
  /** 0 at `low`, 1 at `high`. */
  position(value: number): number;
}

/** Ticks as powers of ten or per cent; else decimals. */
export type TickStyle = "rate" | "percent";

/** Spread between the largest and the smallest positive value from which "auto" takes powers of ten. */
const LOG_SPREAD = 30;

/**
 * An axis over `values`, those that are not finite left out; rounded out to whole ticks.
 * @param options.zero the axis begins at 0; @param options.count about how many ticks; @param options.ticks how they
 * are written
 */
export function linearScale(
  values: readonly number[],
  options: { readonly zero?: boolean; readonly count?: number; readonly ticks?: TickStyle } = {},
): Scale {
  const { count = 4 } = options;
  let [low, high] = extent(values);
  if (options.zero === true) low = Math.min(0, low);
  if (low === high) [low, high] = around(low, options.zero === true);
  const step = niceStep((high - low) / count);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => tidy((first + i) * step));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const plain: NumberFormat = (value) => (step >= 1 ? formatCount(value) : value.toFixed(decimals));
  const share: NumberFormat = (value) => formatPercent(value, Math.max(0, decimals - 2));
  const rate = options.ticks === "rate" || high >= 1e7 || step < 1e-4;
  const label = options.ticks === "percent" ? share : rate ? formatRate : plain;
  return axis("linear", ticks[0]!, ticks.at(-1)!, ticks, label, (value) => value);
}

/** An axis in powers of ten over `values`, all of them positive; ticks at 1, 2 and 5 where few decades are covered. */
export function logScale(values: readonly number[]): Scale {
  const [least, most] = extent(values.filter((value) => value > 0));
  const [low, high] = least === most ? [least / 2, least * 2] : [least, most];
  const decades = Math.log10(high / low);
  const steps = decades > 4 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of steps) ticks.push(tidy(factor * 10 ** power));
  }
  const from = ticks.findLastIndex((tick) => tick <= low * 1.000001);
  const to = ticks.findIndex((tick) => tick >= high * 0.999999);
  const shown = ticks.slice(Math.max(0, from), (to < 0 ? ticks.length - 1 : to) + 1);
  const label: NumberFormat = (value) =>
    value >= 1e6 || value < 1e-3 ? formatRate(value) : value >= 1000 ? formatCount(value) : String(value);
  return axis("log", shown[0]!, shown.at(-1)!, shown, label, Math.log10);
}

/** Powers of ten where every value is positive and they spread far, else linear. */
export function autoScale(values: readonly number[]): Scale {
  const finite = values.filter((value) => Number.isFinite(value));
  const [low, high] = extent(finite);
  return finite.length > 1 && low > 0 && high / low >= LOG_SPREAD ? logScale(finite) : linearScale(finite);
}

/** The axis of optimizer steps, from 0 to `last`, with whole ticks. */
export function stepScale(last: number): Scale {
  const high = Math.max(1, last);
  const step = Math.max(1, niceStep(high / 5));
  const ticks = Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  return axis("linear", 0, high, ticks, formatCount, (value) => value);
}

function axis(
  kind: Scale["kind"],
  low: number,
  high: number,
  ticks: readonly number[],
  label: NumberFormat,
  project: (value: number) => number,
): Scale {
  const [start, end] = [project(low), project(high)];
  return { kind, low, high, ticks, label, position: (value) => (project(value) - start) / (end - start) };
}

function extent(values: readonly number[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [0, 1];
}

/** An axis around a single value. */
function around(value: number, zero: boolean): [number, number] {
  if (value === 0) return [0, 1];
  const room = Math.abs(value) * 0.1;
  return zero ? [0, value + room] : [value - room, value + room];
}

/** 1, 2 or 5 times a power of ten, at least `rough` or nearly so. */
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= rough * 0.95)!;
  return tidy(factor * power);
}

/** Rounds away what floating point adds to 3 * 0.1. */
function tidy(value: number): number {
  return Number(value.toPrecision(12));
}
