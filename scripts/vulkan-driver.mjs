// Installs a software Vulkan driver (Mesa >= 23) through apt. Debian 12's own Mesa is too old for Dawn; its backports
// suite has a newer one, on the same mirror that the machine already uses.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { apt, hasApt } from "./apt.mjs";

const PACKAGES = ["mesa-vulkan-drivers", "libvulkan1"];
const BACKPORTS_FILE = "/etc/apt/sources.list.d/qlora-backports.sources";

/** Suites of Debian and Ubuntu releases whose own Mesa is too old. */
const NEEDS_BACKPORTS = ["bookworm"];

function osRelease() {
  if (!existsSync("/etc/os-release")) return {};
  const lines = readFileSync("/etc/os-release", "utf8").matchAll(/^(\w+)="?([^"\n]*)"?$/gm);
  return Object.fromEntries([...lines].map(([, key, value]) => [key, value]));
}

/** Stanzas of a deb822 file: one record of fields each. */
export function parseDeb822(text) {
  return text
    .split(/\n\s*\n/)
    .map((stanza) => stanza.replaceAll(/^#.*\n?/gm, "").replaceAll(/\n[ \t]+/g, " "))
    .map((stanza) =>
      Object.fromEntries([...stanza.matchAll(/^([\w-]+):\s*(.*)$/gm)].map(([, key, value]) => [key, value.trim()])),
    )
    .filter((fields) => /\bdeb\b/.test(fields.Types ?? "") && fields.Enabled !== "no")
    .map((fields) => ({
      uris: fields.URIs ?? "",
      suites: (fields.Suites ?? "").split(/\s+/),
      signedBy: fields["Signed-By"],
    }));
}

/** One-line entries: `deb [options] uri suite components`. */
export function parseList(text) {
  return [...text.matchAll(/^[ \t]*deb[ \t]+(?:\[([^\]]*)\][ \t]+)?(\S+)[ \t]+(\S+)/gm)].map(
    ([, options = "", uris, suite]) => ({
      uris,
      suites: [suite],
      signedBy: /signed-by=(\S+)/i.exec(options)?.[1],
    }),
  );
}

function aptSources() {
  const folder = "/etc/apt/sources.list.d";
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return ["/etc/apt/sources.list", ...files].filter(existsSync).flatMap((file) => {
    if (file.endsWith(".sources")) return parseDeb822(readFileSync(file, "utf8"));
    return file.endsWith(".list") ? parseList(readFileSync(file, "utf8")) : [];
  });
}

/** The sources file that adds `suite-backports` from where `suite` comes from; undefined where that is not known. */
export function backportsSource(sources, suite) {
  const own = sources.find(({ suites }) => suites.includes(suite));
  if (own === undefined) return undefined;
  const signed = own.signedBy === undefined ? "" : `Signed-By: ${own.signedBy}\n`;
  return `Types: deb\nURIs: ${own.uris}\nSuites: ${suite}-backports\nComponents: main\n${signed}`;
}

/** Installs the driver; returns one sentence saying what is wrong where it cannot. */
export function installSoftwareVulkan() {
  const { ID: id = "this system", VERSION_CODENAME: suite = "" } = osRelease();
  const backports = id === "debian" && NEEDS_BACKPORTS.includes(suite);
  const from = backports ? ["-t", `${suite}-backports`] : [];
  const command = `apt-get install ${[...from, ...PACKAGES].join(" ")}`;
  if (!hasApt())
    return "no Vulkan driver answers: install your GPU's driver, or Mesa >= 23 with its software driver (lavapipe).";
  if (process.getuid?.() !== 0) {
    const first = backports ? ` (with the suite ${suite}-backports enabled)` : "";
    return `no Vulkan driver answers: install your GPU's, or as root a software one with \`${command}\`${first}, and run this again.`;
  }
  console.log("setup: no GPU answers; installing Mesa's software Vulkan driver with apt");
  if (backports) {
    const sources = aptSources();
    if (!sources.some(({ suites }) => suites.includes(`${suite}-backports`))) {
      const text = backportsSource(sources, suite);
      if (text === undefined)
        return `no apt source for ${suite} was found, so ${suite}-backports cannot be enabled: enable it, then \`${command}\`.`;
      writeFileSync(BACKPORTS_FILE, text);
    }
  }
  const update = apt("update"); // one broken source of many fails this, and yet the install may work
  const install = apt("install", "-y", "--no-install-recommends", ...from, ...PACKAGES);
  return install.ok ? undefined : `\`${command}\` failed:\n${update.ok ? "" : `${update.text}\n`}${install.text}`;
}
