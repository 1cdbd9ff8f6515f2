/** The tables of options in docs/shipped-plugins.md, from the schemas. */
import type { OptionDescription, OptionSet } from "../../core/options/options.ts";
import { isPluginFactory } from "../../core/plugin/factory.ts";
import * as plugins from "../../plugins/index.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";

/** Where the tables stand, from the root. */
export const SHIPPED_PLUGINS = "docs/shipped-plugins.md";

/** Schemas by name: of each shipped plugin, and `training`. */
export function optionSets(): ReadonlyMap<string, OptionSet> {
  const shipped = Object.values<unknown>(plugins).filter((value) => isPluginFactory(value));
  return new Map([...shipped.map(({ name, options }) => [name, options] as const), ["training", trainingOptions]]);
}

/** Writes the table of each `<!-- options NAME [KEY...] -->` anew. @throws Error for a name or key that is none */
export function withOptionTables(text: string): string {
  const sets = optionSets();
  return text.replaceAll(/(<!-- options ([^>]+) -->)\n[\s\S]*?(<!-- \/options -->)/g, (_, start, words, end) => {
    const [name, ...keys] = String(words).split(" ");
    const rows = sets.get(name!)?.describe();
    if (rows === undefined) throw new Error(`${SHIPPED_PLUGINS}: no shipped plugin is called ${name}`);
    const chosen = keys.map((key) => {
      const row = rows.find((option) => option.key === key);
      if (row === undefined) throw new Error(`${SHIPPED_PLUGINS}: ${name} has no option ${key}`);
      return row;
    });
    return `${start}\n\n${table(keys.length === 0 ? rows : chosen)}\n${end}`;
  });
}

function table(options: readonly OptionDescription[]): string {
  const cells = options.map(({ key, expected, help, ...rest }) => [`\`${key}\``, expected, standard(rest), help]);
  return markdownTable([["option", "type", "default", "what it is"], ...cells]);
}

/** A table of Markdown as oxfmt lays it out; the first row is its head. */
export function markdownTable(given: readonly (readonly string[])[]): string {
  const rows = given.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]): string => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return `${[line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n")}\n`;
}

function standard({
  required,
  default: value,
  defaultFrom,
}: Omit<OptionDescription, "key" | "expected" | "help">): string {
  if (required) return "required";
  if (defaultFrom !== undefined) return `that of \`${defaultFrom}\``;
  return value === undefined ? "none" : `\`${JSON.stringify(value)}\``;
}
