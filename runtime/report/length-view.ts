/** How long the evaluated rows are, and where they are cut. */
import type { EvaluationRecord } from "../folder/evaluation-record.ts";
import { lengthHistogram } from "./evaluation-figures.ts";
import { formatCount, formatPercent } from "./format.ts";
import { markup, type Markup } from "./markup.ts";
import { linearScale } from "./scale.ts";
import { percent } from "./step-chart.ts";

/** A histogram of tokens per row with the truncation line; nothing where the record has no lengths. */
export function renderLengths(record: EvaluationRecord): Markup | undefined {
  const { fullLengths, maxLength } = record;
  const lengths = fullLengths ?? record.lengths;
  if (lengths === undefined || lengths.length === 0) return undefined;
  const { bins, beyond, upper } = lengthHistogram(lengths, maxLength);
  const y = linearScale([0, ...bins.map((bin) => bin.count)], { zero: true });
  const x = (length: number): string => percent(length / upper);
  const ticks = linearScale([0, upper], { count: 5 }).ticks.filter((tick) => tick <= upper);
  const isBeyond = (length: number): boolean => maxLength !== undefined && length > maxLength;
  const bars = bins
    .filter((bin) => bin.count > 0)
    .map((bin) => {
      const gap = (bin.to - bin.from) * 0.06;
      return markup`<rect class="bar${isBeyond(bin.to) ? " cut" : " kept"}" x="${x(bin.from + gap)}" width="${x(bin.to - bin.from - 2 * gap)}" y="${percent(1 - y.position(bin.count))}" height="${percent(y.position(bin.count))}"><title>${formatCount(bin.from + 1)} to ${formatCount(bin.to)} tokens: ${formatCount(bin.count)} rows</title></rect>`;
    });
  const text = lengthText(record, lengths);
  return markup`
<figure class="chart" aria-labelledby="lengths">
<figcaption><h3 id="lengths">Tokens per row</h3><p class="readout">${text}</p></figcaption>
<div class="plot tall">
<svg role="img" aria-label="Histogram of tokens per row: ${text}.">
${y.ticks.map((tick) => markup`<line class="grid" x1="0" x2="100%" y1="${percent(1 - y.position(tick))}" y2="${percent(1 - y.position(tick))}"/><text class="tick" x="-8" y="${percent(1 - y.position(tick))}" dy=".34em" text-anchor="end">${y.label(tick)}</text>`)}
${ticks.map((tick) => markup`<line class="axis" x1="${x(tick)}" x2="${x(tick)}" y1="100%" y2="100%" transform="translate(0 4)"/><text class="tick" x="${x(tick)}" y="100%" dy="18" text-anchor="middle">${formatCount(tick)}</text>`)}
<text class="tick" x="0" y="0" dy="-9">rows</text>
<text class="tick" x="100%" y="100%" dy="33" text-anchor="end">tokens${fullLengths !== undefined && " before truncation"}</text>
${bars}
${maxLength !== undefined && maxLength <= upper && truncationLine(maxLength, upper)}
</svg>
</div>
${beyond > 0 && markup`<p class="legend">${formatCount(beyond)} rows longer than ${formatCount(upper)} tokens lie beyond the axis.</p>`}
</figure>`;
}

function truncationLine(maxLength: number, upper: number): Markup {
  const x = percent(maxLength / upper);
  const right = maxLength / upper < 0.65;
  return markup`<line class="limit" x1="${x}" x2="${x}" y1="-6" y2="100%"/><text class="tick halo strong" x="${x}" y="0" dx="${right ? 6 : -6}" dy="4" text-anchor="${right ? "start" : "end"}">maxLength ${formatCount(maxLength)}</text>`;
}

function lengthText(record: EvaluationRecord, lengths: readonly number[]): string {
  const { fullLengths, maxLength } = record;
  const sorted = [...lengths].sort((a, b) => a - b);
  const figures = `median ${formatCount(sorted[Math.floor((sorted.length - 1) / 2)]!)}, longest ${formatCount(sorted.at(-1)!)}`;
  if (maxLength === undefined) return figures;
  if (fullLengths === undefined) {
    const full = lengths.filter((length) => length >= maxLength).length;
    return `${formatCount(full)} rows (${formatPercent(full / lengths.length)}) fill maxLength; ${figures}`;
  }
  const cut = fullLengths.filter((length) => length > maxLength).length;
  return `${formatCount(cut)} rows (${formatPercent(cut / lengths.length)}) are cut; ${figures}`;
}
