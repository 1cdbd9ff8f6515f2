/** sweep.html: the arms of a sweep as lines over their options and result, and one table; nothing is fetched. */
import { type Markup, markup } from "../../runtime/report/markup.ts";
import { renderDocument } from "../../runtime/report/page.ts";
import type { SweepArm } from "./arms.ts";

/** What the page shows. */
export interface SweepPage {
  readonly title: string;
  readonly metric: string;
  readonly parameters: readonly string[];
  /** The best first. */
  readonly arms: readonly SweepArm[];
}

const [WIDTH, HEIGHT, TOP, SIDE] = [960, 360, 48, 90];

/** An axis: where a value of it stands, from 0 at the bottom to 1. */
interface Axis {
  readonly name: string;
  readonly low: string;
  readonly high: string;
  readonly place: (arm: SweepArm) => number | undefined;
}

function axisOf(name: string, arms: readonly SweepArm[], value: (arm: SweepArm) => unknown): Axis {
  const values = arms.map(value).filter((each) => each !== undefined);
  if (values.every((each) => typeof each === "number")) {
    const [min, max] = [Math.min(...values), Math.max(...values)];
    // Learning rates lie apart by factors.
    const scaled = min > 0 && max / min > 20 ? Math.log : (x: number): number => x;
    const span = scaled(max) - scaled(min);
    const place = (arm: SweepArm): number | undefined => {
      const at = value(arm);
      return typeof at !== "number" ? undefined : span === 0 ? 0.5 : (scaled(at) - scaled(min)) / span;
    };
    return { name, low: shown(min), high: shown(max), place };
  }
  const words = [...new Set(values.map(shown))];
  const place = (arm: SweepArm): number =>
    words.length === 1 ? 0.5 : words.indexOf(shown(value(arm))) / (words.length - 1);
  return { name, low: words[0] ?? "", high: words.at(-1) ?? "", place };
}

const shown = (value: unknown): string =>
  value === undefined ? "" : typeof value === "number" ? String(Number(value.toPrecision(5))) : JSON.stringify(value);

/** The page as text. */
export function sweepPage({ title, metric, parameters, arms }: SweepPage): string {
  const axes = [
    ...parameters.map((name) => axisOf(name, arms, (arm) => arm.values[name])),
    axisOf(metric, arms, (arm) => arm.value),
  ];
  const x = (i: number): number => SIDE + (i * (WIDTH - 2 * SIDE)) / Math.max(1, axes.length - 1);
  const y = (place: number): number => HEIGHT - TOP - place * (HEIGHT - 2 * TOP);
  const line = (arm: SweepArm, rank: number): Markup => {
    const points = axes.flatMap(({ place }, i) => {
      const at = place(arm);
      return at === undefined ? [] : [`${x(i).toFixed(1)},${y(at).toFixed(1)}`];
    });
    const share = arms.length === 1 ? 0 : rank / (arms.length - 1);
    const width = rank === 0 ? 3 : 1.5;
    return markup`<polyline points="${points.join(" ")}" fill="none" stroke="hsl(${Math.round(150 + 200 * share)} 65% 45%)" stroke-width="${width}" opacity="${(1 - 0.6 * share).toFixed(2)}"><title>arm ${arm.arm}: ${metric} ${shown(arm.value)}</title></polyline>`;
  };
  const axis = ({ name, low, high }: Axis, i: number): Markup => markup`<g>
<line x1="${x(i)}" x2="${x(i)}" y1="${TOP}" y2="${HEIGHT - TOP}" stroke="currentColor" opacity="0.5"/>
<text x="${x(i)}" y="${TOP - 24}" text-anchor="middle" font-size="13" fill="currentColor">${name}</text>
<text x="${x(i)}" y="${TOP - 8}" text-anchor="middle" font-size="11" fill="currentColor">${high}</text>
<text x="${x(i)}" y="${HEIGHT - TOP + 16}" text-anchor="middle" font-size="11" fill="currentColor">${low}</text></g>`;
  const row = (arm: SweepArm): Markup =>
    markup`<tr><td>${arm.arm}</td>${parameters.map((name) => markup`<td>${shown(arm.values[name])}</td>`)}<td>${arm.steps}</td><td>${shown(arm.value)}</td><td>${arm.state}</td></tr>
`;
  // The best is drawn last, over the others.
  const lines = arms.map(line).toReversed();
  const body = markup`<main><h1>${title}</h1>
<p>${arms.length} arms by ${metric}, the best first; each line is an arm, the thickest the best.</p>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Parallel coordinates of the arms" style="width:100%;height:auto">
${lines}
${axes.map(axis)}
</svg>
<table><thead><tr><th>arm</th>${parameters.map((name) => markup`<th>${name}</th>`)}<th>steps</th><th>${metric}</th><th>state</th></tr></thead><tbody>
${arms.map(row)}</tbody></table></main>`;
  return renderDocument({ title, body, scripts: [] });
}
