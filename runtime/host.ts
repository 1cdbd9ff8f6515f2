/** The JavaScript runtime that this process is: what only Bun or Deno can do is asked of it here. */
import { setImmediate } from "node:timers/promises";
import { QloraError } from "../core/errors.ts";

const { bun, deno, node } = process.versions;

/** The runtime by the name of its command. */
export const hostName: "bun" | "deno" | "node" = bun !== undefined ? "bun" : deno !== undefined ? "deno" : "node";

/** Its release, without Node's leading v. */
export const hostVersion: string = bun ?? deno ?? node;

/** How messages name it: `Node 20.1.0`. */
export const hostTitle = `${hostName[0]!.toUpperCase()}${hostName.slice(1)} ${hostVersion}`;

/** @throws QloraError RUNTIME_UNSUPPORTED on every runtime but Bun */
export function requireBun(what: string): void {
  if (hostName === "bun") return;
  throw new QloraError("RUNTIME_UNSUPPORTED", `${what}: got ${hostTitle}, expected Bun`, {
    hint: "Run this part with Bun >= 1.4: bun add qlora, then bun FILE.",
  });
}

/** Lets whatever else waits in the event loop have its turn. */
export const nextTurn = (): Promise<void> => setImmediate();
