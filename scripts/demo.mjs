// `npm run demo`: sets up, then trains, evaluates and predicts with the tiny bundled model.
import { spawnSync } from "node:child_process";
import { setUp } from "./setup.mjs";

const { bun, env, root } = setUp();
const { status } = spawnSync(bun, ["cli/main.ts", "demo"], { cwd: root, env, stdio: "inherit" });
process.exitCode = status ?? 1;
