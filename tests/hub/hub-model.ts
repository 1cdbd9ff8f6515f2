/** A hub on this machine that has one model, and a cache of its own for every test. */
import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { resolveModel, type HubEnvironment, type ResolvedModel, type ResolveOptions } from "../../runtime/hub/index.ts";
import { packageFolder } from "../support/packages.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { until } from "../support/until.ts";
import { sha256, startHub, type FakeHub } from "./server.ts";

/** Whether the hub's client is installed; where not, it is said loudly. */
export const hubClient = packageFolder("@huggingface/hub", "tests that ask a hub") !== undefined;
/** A test that asks a hub. */
export const hubTest = test.skipIf(!hubClient);

export const ID = "tiny/gemma2-nf4";
export const TOKEN = "hf_secretSecretSecret";
export const files = new Map(
  [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ].map((name) => [name, new Uint8Array(readFileSync(join(tinyCheckpoint, name)))]),
);
export const weights = files.get("model.safetensors")!;
export const all = [...files.values()].reduce((sum, { length }) => sum + length, 0);
const repository = new Map([
  ...files,
  ["README.md", Buffer.from("# card")],
  ["pytorch_model.bin", Buffer.from("pickle")],
]);

/** Caches of the tests; removed at the end. */
export let root: string;
export let server: FakeHub;
export let hub: HubEnvironment;
/** The model's folder in the cache. */
export let model: string;

/** Starts a hub before each test of a file, and stops it. */
export function useHub(): void {
  root = mkdtempSync(join(tmpdir(), "qlora-hub-"));
  const own = root;
  beforeEach(async () => {
    root = own;
    server = await startHub(ID, repository);
    server.misbehaviour.arrived = (bytes) =>
      until(`${bytes} bytes are there`, () => (statSync(half(), { throwIfNoEntry: false })?.size ?? 0) >= bytes);
    hub = environment();
    model = join(hub.cacheDir, "models--tiny--gemma2-nf4");
  });
  afterEach(() => server.stop());
  afterAll(() => rmSync(own, { recursive: true, force: true }));
}

/** Another repository in its place, at an address of its own. */
export async function serve(other: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await server.stop();
  server = await startHub(ID, other);
}

const environment = (more: Partial<HubEnvironment> = {}): HubEnvironment => ({
  endpoint: server.url,
  token: undefined,
  cacheDir: mkdtempSync(join(root, "cache-")),
  offline: false,
  answerTimeout: 2000,
  stallTimeout: 2000,
  retryDelay: 1,
  ...more,
});
export const resolve = (
  options: ResolveOptions = {},
  more: Partial<HubEnvironment> = {},
  id = ID,
): Promise<ResolvedModel> => resolveModel(id, options, { ...hub, ...more });
export const blob = (): string => join(model, "blobs", sha256(weights));
export const half = (): string => `${blob()}.incomplete`;

/** The error that a promise ends with. */
export async function failure(promise: Promise<unknown>): Promise<QloraError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(QloraError);
  expect(`${(error as Error).message} ${String((error as QloraError).hint)}`).not.toContain(TOKEN);
  return error as QloraError;
}
