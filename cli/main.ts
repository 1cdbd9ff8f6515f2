#!/usr/bin/env -S bun --no-env-file --config=/dev/null
// Bun reads neither .env nor bunfig.toml of the working folder: whoever made the folder runs no code here, and moves no endpoint.
import { isPluginFactory } from "../core/plugin/factory.ts";
import { main } from "./run.ts";
import type { Services } from "./sdk.ts";

const services: Services = {
  sdk: () => import("../index.ts"),
  plugins: async () => Object.values(await import("../plugins/index.ts")).filter((value) => isPluginFactory(value)),
};

// GPU bindings keep threads alive: leave once stdout has been taken, not when the event loop runs dry.
process.exit(await main(process.argv.slice(2), services));
