/** What the page shows, by the ids of index.html. */

const byId = <T extends HTMLElement>(id: string): T => {
  const found = document.querySelector<T>(`#${id}`);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
};

/** An element with a text and a class. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  text = "",
  className = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/** The page's parts that change. */
export const view = {
  title: byId("title"),
  facts: byId("facts"),
  load: byId<HTMLButtonElement>("load"),
  forget: byId<HTMLButtonElement>("forget"),
  sealed: byId("sealed"),
  form: byId<HTMLFormElement>("form"),
  fields: byId<HTMLFieldSetElement>("fields"),
  made: byId("made"),
};

/** Names with values; a later value of the same name takes the place of the earlier. */
export function showFact(name: string, value: string): void {
  const known = [...view.facts.querySelectorAll("dt")].find(({ textContent }) => textContent === name);
  if (known !== undefined) {
    known.nextElementSibling!.textContent = value;
    return;
  }
  const pair = document.createElement("div");
  pair.append(element("dt", name), element("dd", value));
  view.facts.append(pair);
}

/** What is wrong, and what the visitor can do; undefined takes it back. */
export function showProblem(text: string | undefined): void {
  const problem = byId("problem");
  problem.hidden = text === undefined;
  problem.textContent = text ?? "";
}

/** How far something is; undefined hides the bar. */
export function showProgress(text: string | undefined, part = 0): void {
  byId("progress").hidden = text === undefined;
  byId("progress-text").textContent = text ?? "";
  byId<HTMLProgressElement>("progress-bar").value = part;
}

/** Probabilities of the classes, with notes below. */
export function showVerdict(labels: readonly string[], probabilities: readonly number[], notes: string): void {
  const most = probabilities.indexOf(Math.max(...probabilities));
  const bars = labels.map((label, i) => {
    const bar = element("div", "", i === most ? "bar most" : "bar");
    const track = document.createElement("i");
    const fill = document.createElement("i");
    fill.style.width = `${100 * probabilities[i]!}%`;
    track.append(fill);
    bar.append(element("span", label), track, element("b", `${(100 * probabilities[i]!).toFixed(1)} %`));
    return bar;
  });
  byId("bars").replaceChildren(...bars);
  byId("notes").textContent = notes;
  byId("verdict").hidden = false;
  byId("verdict-title").focus();
}

/** Bytes for people: 1.62 GB. */
export function sizeText(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
