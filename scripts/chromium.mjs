// The browser of the page tests: installed through apt where there is none and we are root, so that nothing is skipped for want of it.
import { spawnSync } from "node:child_process";
import { apt, hasApt } from "./apt.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const starts = (name) => spawnSync(name, ["--version"]).status === 0;

/** Says what is missing where it cannot install one: the page tests are then skipped, which they say too. */
export function ensureChromium() {
  if (process.env.QLORA_CHROMIUM !== undefined || NAMES.some(starts)) return;
  if (process.platform !== "linux" || process.getuid?.() !== 0 || !hasApt()) return;
  console.log("setup: installing Chromium for the page tests with apt");
  const update = apt("update"); // one broken source of many fails this, and yet the install may work
  const install = apt("install", "-y", "--no-install-recommends", "chromium");
  if (!install.ok)
    console.error(`setup: Chromium could not be installed:\n${update.ok ? "" : update.text}\n${install.text}`);
}
