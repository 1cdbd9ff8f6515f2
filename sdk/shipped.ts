import { isPluginFactory } from "../core/plugin/factory.ts";
import * as plugins from "../plugins/index.ts";
import type { ResolveContext } from "../runtime/config/resolve.ts";

/** Where plugins are found that a trained adapter's files name: those that ship, then packages beside the working folder. */
export const resolveContext = (): ResolveContext => ({
  shipped: Object.values(plugins).filter((value) => isPluginFactory(value)),
  from: process.cwd(),
});
