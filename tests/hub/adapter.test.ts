/** Adapters by their names on the hub: what is fetched, and what is refused. */
import { afterEach, beforeEach, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { checkAdapterFolder } from "../../runtime/run/resume.ts";
import { goldenPath } from "../support/reference.ts";
import { failure, hub, hubTest, ID, serve, server, useHub } from "./hub-model.ts";

useHub();
const kept = { ...process.env };
beforeEach(() => Object.assign(process.env, { HF_HUB_CACHE: hub.cacheDir, HF_HOME: hub.cacheDir }));
afterEach(() => {
  for (const key of ["HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT"]) {
    if (kept[key] === undefined) delete process.env[key];
    else process.env[key] = kept[key];
  }
});

const own = (name: string): Uint8Array => new Uint8Array(readFileSync(goldenPath("parity-tiny", "adapter", name)));
const config = own("adapter_config.json");

hubTest("an adapter is fetched with its config, and nothing beside", async () => {
  const weights = own("adapter_model.safetensors");
  await serve(
    new Map<string, Uint8Array>([
      ["adapter_config.json", config],
      ["adapter_model.safetensors", weights],
      ["optimizer.pt", Buffer.from("pickle")],
      ["README.md", Buffer.from("# card")],
    ]),
  );
  process.env["HF_ENDPOINT"] = server.url;
  checkAdapterFolder("training.initAdapter", ID);
  const { directory, config: read } = await findAdapter(ID);
  expect(read["r"]).toBe(8);
  expect(Buffer.compare(readFileSync(join(directory, "adapter_model.safetensors")), weights)).toBe(0);
  expect(server.requests.some(({ path }) => /optimizer|README/.test(path))).toBe(false);
});

hubTest("a pickled adapter, and what is none, are refused before they are fetched", async () => {
  await serve(
    new Map<string, Uint8Array>([
      ["adapter_config.json", config],
      ["adapter_model.bin", Buffer.from("pickle")],
    ]),
  );
  process.env["HF_ENDPOINT"] = server.url;
  const pickled = await failure(findAdapter(ID));
  expect(pickled.message).toBe(
    `${ID} has no adapter_model.safetensors, but adapter_model.bin, a pickle, which may run code when it is loaded`,
  );
  expect(pickled.hint).toContain("save_pretrained");
  expect(server.requests.some(({ path }) => path.includes("adapter_model.bin"))).toBe(false);
  await serve(new Map([["config.json", Buffer.from("{}")]]));
  process.env["HF_ENDPOINT"] = server.url;
  expect((await failure(findAdapter(ID))).message).toBe(`${ID} has no adapter_config.json: it is no adapter of PEFT`);
});
