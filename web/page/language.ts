/** What older engines lack of the language. Nothing that is there is replaced. */
import { Float16Array } from "@petamoriken/float16";
import "core-js/actual/array/from-async";
import "core-js/actual/async-disposable-stack";
import "core-js/actual/disposable-stack";
import "core-js/actual/map/group-by";
import "core-js/actual/promise/with-resolvers";
import "core-js/actual/set/difference";
import "core-js/actual/suppressed-error";

/** Sets a global that is missing. */
export function provide(name: string, value: unknown): void {
  if (name in globalThis) return;
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

provide("Float16Array", Float16Array);
