import { existsSync } from "node:fs";
import { relative, resolve } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { article, isPluginFactory } from "../../core/plugin/factory.ts";
import { didYouMean } from "../../core/util/suggest.ts";
import * as plugins from "../../plugins/index.ts";
import { flagOf } from "../../runtime/config/resolve.ts";
import { notes, writeData } from "../output.ts";
import { pluginNames, writePluginPackage } from "../scaffold.ts";

/** Kinds that have a template. */
const TEMPLATE_KINDS = ["model", "adapter", "optimizer", "metric", "reporter"] as const;

/** Starts a plugin package and says what to do next. */
export async function runPlugin(
  [action = "", given = "", name = ""]: readonly string[],
  output: string | undefined,
): Promise<void> {
  const problems: string[] = [];
  if (action !== "new")
    problems.push(`ACTION: got ${JSON.stringify(action)}, expected new${didYouMean(action, ["new"])}`);
  const kind = TEMPLATE_KINDS.find((each) => each === given);
  if (kind === undefined)
    problems.push(
      `KIND: got ${JSON.stringify(given)}, expected one of ${TEMPLATE_KINDS.join(", ")}${didYouMean(given, TEMPLATE_KINDS)}`,
    );
  if (kind === undefined || problems.length > 0)
    throw new ConfigError("USAGE", problems, { hint: "See qlora plugin --help." });

  const shipped = Object.values<unknown>(plugins).filter((value) => isPluginFactory(value));
  const names = pluginNames(
    name,
    shipped.map((factory) => factory.name),
  );
  const folder = resolve(output ?? names.package.split("/").at(-1)!);
  if (existsSync(folder)) {
    throw new ConfigError("FOLDER_EXISTS", `${folder}: there is such a folder already; nothing was written`, {
      hint: "Name another with --output.",
    });
  }
  const files = await writePluginPackage(kind, names, folder);
  const way = relative(process.cwd(), folder);
  const path = way.startsWith("..") ? way : `./${way}`;
  const flag = kind === "metric" ? "--metrics log-loss," : `--${flagOf(kind)} `;
  notes.info(`wrote the ${kind} ${names.plugin} to ${path}: ${files.join(", ")}`);
  await writeData(
    [
      `cd ${path} && bun install && bun test     # its tests: qlora's contract for ${article(kind)}`,
      `qlora train ${flag}${path} ...     # from here, as it lies`,
      `bun add ${path} && qlora train ${flag}${names.cli} ...     # by its name, where it is installed`,
      "",
    ].join("\n"),
  );
}
