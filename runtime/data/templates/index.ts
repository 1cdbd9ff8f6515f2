/** The templates that the option `template` names, and which one a run has. */
import { ConfigError } from "../../../core/errors.ts";
import type { TemplatePlugin } from "../../../core/plugin/template.ts";
import { nearestName } from "../../../core/util/suggest.ts";
import { chatTemplate } from "./chat.ts";
import { notebookTemplate } from "./notebook.ts";
import { parseTemplate, stringTemplate } from "./string.ts";
import { tagsTemplate } from "./tags.ts";

/** What stands where nothing is said; its texts are those that formats make by themselves. */
export const DEFAULT_TEMPLATE = "notebook";

const shipped = [notebookTemplate, tagsTemplate, chatTemplate] as const;

/** Names of the templates that ship. */
export const templateNames: readonly string[] = shipped.map(({ name }) => name);

/** What is wrong with a value of the option `template`; undefined where nothing is. */
export function templateProblem(text: string): string | undefined {
  if (templateNames.includes(text)) return undefined;
  if (!/[{}]/.test(text)) {
    const near = nearestName(text, templateNames);
    const guess = near === undefined ? "" : `; did you mean "${near}"?`;
    return `got ${JSON.stringify(text)}, expected ${templateNames.join(", ")} or a text with fields in braces such as {prompt}${guess}`;
  }
  const read = parseTemplate(text);
  return "problem" in read ? `got ${JSON.stringify(text)}: ${read.problem}` : undefined;
}

/** The template of a value of the option; undefined for the default, whose texts formats make by themselves. @throws ConfigError */
export function namedTemplate(text: string): TemplatePlugin | undefined {
  if (text === DEFAULT_TEMPLATE) return undefined;
  const problem = templateProblem(text);
  if (problem !== undefined) throw new ConfigError("TEMPLATE_INVALID", `data.template: ${problem}`);
  const named = shipped.find(({ name }) => name === text);
  return named === undefined ? stringTemplate({ text }) : named();
}
