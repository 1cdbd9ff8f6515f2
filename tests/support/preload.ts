/** What `bun test` runs before the test files (bunfig.toml). */
import { plugin } from "bun";

process.env["XDG_RUNTIME_DIR"] ??= "/tmp"; // without one the Vulkan loader writes a warning, also in commands that tests start

/** Kernels are compiled by a software driver here, on cores that other tests use too. */
const TIMEOUT_MS = 300_000;

/** Bun's default of five seconds holds anew for each file, so each sets its own: a statement before its first line. */
plugin({
  name: "timeout",
  setup(build) {
    const own = `import { setDefaultTimeout as setTestTimeout } from "bun:test"; setTestTimeout(${TIMEOUT_MS}); `;
    build.onLoad({ filter: /\.test\.ts$/ }, async ({ path }) => ({
      contents: own + (await Bun.file(path).text()),
      loader: "ts",
    }));
  },
});
