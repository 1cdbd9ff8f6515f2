/** Help text: citty's usage for a command's own flags, then its options by group. */
import { renderUsage } from "citty";
import { describeDefinition, formatValue } from "../core/options/describe.ts";
import type { Option } from "../core/options/options.ts";
import { toKebab, type FlagGroup } from "./argv.ts";
import type { AnyCommand } from "./command.ts";
import { columns, plainFor } from "./output.ts";

function optionHelp(option: Option, recorded: boolean): string {
  const { presence, defaultFrom, definition, help } = option;
  const fallback =
    presence === "required"
      ? "required"
      : defaultFrom !== undefined
        ? `default: ${toKebab(defaultFrom)}`
        : option.default === undefined || recorded
          ? undefined
          : `default: ${typeof option.default === "string" ? option.default : formatValue(option.default)}`;
  return `${help} (${[describeDefinition(definition), fallback].filter((part) => part !== undefined).join("; ")})`;
}

function groupHelp({ title, section, flat, shape, recorded = false }: FlagGroup): string {
  const rows = Object.entries(shape).map(([key, option]) => [
    `  --${toKebab(flat ? key : `${section}.${key}`)}`,
    optionHelp(option, recorded),
  ]);
  return rows.length === 0 ? "" : `\n${title.toUpperCase()}\n\n${columns(rows)}`;
}

/** The whole help text of `command`, without colors where stdout is no terminal. */
export async function helpText(
  command: AnyCommand,
  groups: readonly FlagGroup[],
  parent?: AnyCommand,
): Promise<string> {
  const usage = await renderUsage(command, parent);
  return plainFor(process.stdout, `${usage.trimEnd()}\n${groups.map(groupHelp).join("")}`);
}
