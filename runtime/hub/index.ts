/** Models of the Hugging Face hub. */
export { hubEnvironment, type HubEnvironment } from "./environment.ts";
export { resolveDataset } from "./dataset.ts";
export { isDatasetName } from "./dataset-reference.ts";
export { looksLikeCheckpoint } from "./reference.ts";
export { resolveModel, type ResolvedModel, type RemoteHeaders, type ResolveOptions } from "./resolve.ts";
