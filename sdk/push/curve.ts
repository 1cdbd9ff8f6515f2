/** The curve of a run as a picture of its own: train and evaluation loss over steps, in SVG. */
import type { LogEntry } from "../../runtime/folder/trainer-state.ts";
import { pointsOf, splitHistory, type Point } from "../../runtime/report/history.ts";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [720, 320, 56, 36, 16, 16];
const LINES = [
  ["loss", "train loss", "#2563eb"],
  ["eval_loss", "eval loss", "#dc2626"],
] as const;

/** The picture; undefined where nothing was logged. */
export function lossCurve(history: readonly LogEntry[]): string | undefined {
  const { training, evaluations } = splitHistory(history);
  const curves = LINES.map(([key, title, color]) => {
    const points = pointsOf(key === "loss" ? training : evaluations, key).filter(({ value }) => Number.isFinite(value));
    return { title, color, points };
  }).filter(({ points }) => points.length > 0);
  const all = curves.flatMap(({ points }) => points);
  if (all.length === 0) return undefined;
  const [low, high] = [Math.min(...all.map(({ value }) => value)), Math.max(...all.map(({ value }) => value))];
  const last = Math.max(...all.map(({ step }) => step));
  const x = (step: number): string => (LEFT + ((WIDTH - LEFT - RIGHT) * step) / last).toFixed(1);
  const y = (value: number): string =>
    (HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (high === low ? 0.5 : (value - low) / (high - low))).toFixed(1);
  const path = (points: readonly Point[]): string =>
    points.map(({ step, value }) => `${x(step)},${y(value)}`).join(" ");
  const ticks = high === low ? [low] : [low, (low + high) / 2, high];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    ...ticks.map(
      (value) =>
        `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="#e5e7eb"/>` +
        `<text x="${LEFT - 6}" y="${y(value)}" text-anchor="end" dominant-baseline="middle">${value.toFixed(3)}</text>`,
    ),
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 12}" text-anchor="end">step ${last}</text>`,
    ...curves.flatMap(({ title, color, points }, i) => [
      `<polyline fill="none" stroke="${color}" stroke-width="2" points="${path(points)}"/>`,
      ...points.slice(-1).map(({ step, value }) => `<circle cx="${x(step)}" cy="${y(value)}" r="3" fill="${color}"/>`),
      `<text x="${LEFT + 110 * i}" y="${HEIGHT - 12}" fill="${color}">${title}</text>`,
    ]),
    "</svg>",
    "",
  ].join("\n");
}
