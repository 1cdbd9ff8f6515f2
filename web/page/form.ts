/** The form: a text for each field of the judge's rows. */
import type { SiteManifest } from "../manifest.ts";
import { element } from "./view.ts";

/** The form's elements, in order. Two answers stand side by side. */
export function formElements({ fields, mirror }: SiteManifest): HTMLElement[] {
  const texts = element("div", "", "texts");
  for (const [i, { name, label }] of fields.entries()) {
    const box = element("label", "", mirror !== undefined && i >= fields.length - 2 ? "" : "whole");
    const area = document.createElement("textarea");
    area.name = name;
    area.spellcheck = false; // a browser's checker may be somebody else's server
    area.autocomplete = "off";
    box.append(element("span", label), area);
    texts.append(box);
  }
  const actions = element("div", "", "row");
  const judge = element("button", "Judge");
  judge.type = "submit";
  actions.append(judge);
  if (mirror !== undefined) {
    const box = element("label");
    const swap = document.createElement("input");
    swap.type = "checkbox";
    swap.name = "swap";
    box.append(swap, " also with the answers exchanged, and average");
    actions.append(box);
  }
  return [texts, actions];
}
