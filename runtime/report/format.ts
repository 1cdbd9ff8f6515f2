/** Numbers as a reader wants them, a no-break space before the unit. The page also carries each exact value, in `<data value>`. */
import { markup, type Markup } from "./markup.ts";

/** How a number is written. */
export type NumberFormat = (value: number) => string;

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** `0.9371`; very small or very large numbers in powers of ten. */
export function formatDecimal(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return trimExponent(value.toExponential(2));
  return value.toFixed(size >= 100 ? Math.min(digits, 1) : digits);
}

/** `0.41` epochs. */
export function formatEpoch(value: number): string {
  return value.toFixed(2);
}

/** `12,345`. */
export function formatCount(value: number): string {
  return Number.isFinite(value) ? grouped.format(value) : "not finite";
}

/** `1 step`, `12,345 steps`. */
export function countOf(value: number, noun: string): string {
  return `${formatCount(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** `12,345`, `12.3 M`, `4.56 B`. */
export function formatLarge(value: number): string {
  if (!Number.isFinite(value) || value < 1e6) return formatCount(value);
  const [size, unit] = value < 1e9 ? [value / 1e6, "M"] : [value / 1e9, "B"];
  return `${size.toPrecision(3)}\u00a0${unit}`;
}

/** `1.7e-4`, as configs write it. */
export function formatRate(value: number): string {
  if (!Number.isFinite(value)) return "not finite";
  const plain = value === 0 || (Math.abs(value) >= 0.01 && Math.abs(value) < 1e6);
  return plain ? String(Number(value.toPrecision(3))) : trimExponent(value.toExponential(2));
}

/** `0.0364`, and 0 for what only rounding keeps from it. */
export function formatError(value: number): string {
  return value.toFixed(4);
}

/** `41.2 %`. */
export function formatPercent(share: number, digits = 1): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(digits)}\u00a0%` : "–";
}

/** `0.84 s`, `12.3 s`, `2 min 13 s`, `15 h 04 min`. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return "not finite";
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)}\u00a0s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)}\u00a0min ${pad(whole % 60)}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)}\u00a0h ${pad(minutes % 60)}\u00a0min`;
}

/** `2025-03-01 12:30 UTC`; anything that is no date stays as it is. */
export function formatMoment(iso: string): string {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? iso : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** A number as `format` writes it, with its exact value beside it. */
export function number(value: number, format: NumberFormat = formatDecimal): Markup {
  if (!Number.isFinite(value)) return markup`<span class="bad">not finite</span>`;
  return markup`<data value="${String(value)}">${format(value)}</data>`;
}

/** `eval_log_loss` as `log loss`. */
export function metricTitle(key: string): string {
  return key.replace(/^eval_/, "").replaceAll("_", " ");
}

/** First letter upper case. */
export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function trimExponent(text: string): string {
  return text.replace(/\.?0*e/, "e").replace("e+", "e");
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
