/** What Node 20 lacks of the language; dist/polyfills.js, which all of dist/ imports first. Nothing that is there is replaced. */
import { Float16Array } from "@petamoriken/float16";
import "core-js/actual/array/from-async";
import "core-js/actual/async-disposable-stack";
import "core-js/actual/disposable-stack";
import "core-js/actual/map/group-by";
import "core-js/actual/promise/with-resolvers";
import "core-js/actual/set/difference";
import "core-js/actual/suppressed-error";
import { availableParallelism } from "node:os";

const missing = { Float16Array, navigator: { hardwareConcurrency: availableParallelism() } };
for (const [name, value] of Object.entries(missing)) {
  if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
