/** `--columns.prompt question`: the option `columns`, name by name. */
import { option } from "../core/options/options.ts";
import { columnNames } from "../runtime/data/formats/index.ts";
import type { FlagGroup, SectionValues } from "./argv.ts";

export const columnsGroup: FlagGroup = {
  title: "Columns of the files, where they have other names",
  section: "columns",
  flat: false,
  shape: Object.fromEntries(
    columnNames.map((name) => [
      name,
      option("string > 0", { optional: true, help: `the files' name of column ${name}` }),
    ]),
  ),
};

/** The option `columns`: what its flags say, over `base`. */
export const columnsOf = (
  { columns = {}, data = {} }: SectionValues,
  base: Readonly<Record<string, string>> = {},
): object =>
  Object.keys(columns).length === 0
    ? {}
    : { columns: { ...base, ...(data["columns"] as object | undefined), ...columns } };
