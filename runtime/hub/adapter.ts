/** An adapter by its name on the hub. */
import type { RunListener } from "../events.ts";
import { isHubName } from "./reference.ts";
import { resolveModel } from "./resolve.ts";

/**
 * The folder of an adapter: as it is, or, of a name on the hub, that in the cache.
 * @throws ModelError HUB_NO_ADAPTER, HUB_NO_SAFETENSORS, and as `resolveModel`
 */
export async function adapterFolder(folderOrName: string, onEvent?: RunListener): Promise<string> {
  if (!isHubName(folderOrName)) return folderOrName;
  return (await resolveModel(folderOrName, { part: "adapter", onEvent })).directory;
}
