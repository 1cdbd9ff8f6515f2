// Debian's package manager, which never asks anything.
import { spawnSync } from "node:child_process";

export const hasApt = () => spawnSync("apt-get", ["--version"]).status === 0;

export function apt(...args) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const { status, stdout, stderr } = spawnSync("apt-get", ["-o", "DPkg::Lock::Timeout=300", ...args], {
    env,
    encoding: "utf8",
  });
  return { ok: status === 0, text: `${stdout ?? ""}${stderr ?? ""}`.trim() };
}
