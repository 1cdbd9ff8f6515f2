/** Models of the Hugging Face hub. */
export { adapterFolder } from "./adapter.ts";
export { hubEnvironment, type HubEnvironment } from "./environment.ts";
export { resolveDataset } from "./dataset.ts";
export { isDatasetName } from "./dataset-reference.ts";
export { isHubName, looksLikeCheckpoint } from "./reference.ts";
export { resolveModel, type ResolvedModel, type RemoteHeaders, type ResolveOptions } from "./resolve.ts";
