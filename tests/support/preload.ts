/** What every test file starts with (bunfig.toml). */
import { setDefaultTimeout } from "bun:test";

/** Kernels are compiled by a software driver here, on cores that other tests use too. */
setDefaultTimeout(300_000);

process.env["XDG_RUNTIME_DIR"] ??= "/tmp"; // without one the Vulkan loader writes a warning, also in commands that tests start
