/** The page at `/`: a prompt and two answers, or a text, and what the adapter makes of them. */
import { markup } from "../../runtime/report/markup.ts";
import { renderDocument } from "../../runtime/report/page.ts";
import type { Judge } from "./judge.ts";
import script from "./page.client.js" with { type: "text" };
import style from "./page.css" with { type: "text" };

/** @param secured whether requests need a key, which the page asks for and keeps nowhere */
export function renderServePage({ adapters, baseModel, numLabels, maxLength }: Judge, secured: boolean): string {
  const title = `${adapters[0]!.name}: a judge`;
  const path = numLabels === 1 ? "/score" : "/classify";
  const area = (id: string, label: string, rows: number) => markup`<label class="${id}" for="${id}">${label}
<textarea id="${id}" rows="${rows}" spellcheck="false"></textarea></label>`;
  const body = markup`<main>
<h1>${title}</h1>
<p class="lead">${baseModel}, at most ${maxLength} tokens a row; ${path} and <a href="/openapi.json">the rest of its interface</a></p>
<form id="ask" data-path="${path}">
<p class="switches">
${
  numLabels > 1 &&
  markup`<label><input type="radio" name="kind" value="comparison" checked> two answers</label>
<label><input type="radio" name="kind" value="text"> one text</label>
<label class="comparison"><input type="checkbox" id="swap"> both orders, averaged</label>`
}
${
  adapters.length > 1 &&
  markup`<label>adapter <select id="model">${adapters.map(({ name }) => markup`<option>${name}</option>`)}</select></label>`
}
${secured && markup`<label>key <input type="password" id="key" autocomplete="off"></label>`}
</p>
<div class="comparison" ${numLabels === 1 && markup`hidden`}>
${area("prompt", "Prompt", 3)}
<div class="pair">${area("response_a", "Answer A", 10)}${area("response_b", "Answer B", 10)}</div>
</div>
<div class="text" ${numLabels > 1 && markup`hidden`}>${area("text", "Text", 12)}</div>
<p><button type="submit">Judge</button> <span id="state" role="status"></span></p>
</form>
<dl id="answer" aria-live="polite"></dl>
</main>`;
  return renderDocument({ title, style, scripts: [script], connects: true, body });
}
