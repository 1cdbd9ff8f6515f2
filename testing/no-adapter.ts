import type { AdaptedLinear, LinearSpec, FrozenWeight } from "../core/compute/linear.ts";
import type { ParameterSet, ParameterSpec } from "../core/compute/parameters.ts";
import { defineOptions } from "../core/options/options.ts";
import { type Adapter, type AdapterContext, type AdapterPlugin, defineAdapter } from "../core/plugin/adapter.ts";

type Parts = Pick<Adapter, "adapt"> & { readonly parameters?: readonly ParameterSpec[] };

/** An adapter of a test: it has no files. */
export function testAdapter(name: string, make: (context: AdapterContext) => Parts): AdapterPlugin {
  const none = (): never => {
    throw new Error(`the adapter ${name} of the tests has no files`);
  };
  const factory = defineAdapter({
    name,
    options: defineOptions({}),
    reads: () => false,
    optionsFrom: none,
    create: async (_options, context) => ({ parameters: [], save: none, load: none, ...make(context) }),
  });
  return factory();
}

/** Leaves every linear alone. */
export function bareAdapter(): AdapterPlugin {
  return testAdapter("bare", () => ({ adapt: (spec, weight) => ({ spec, weight }) }));
}

/** Wraps every linear by `wrap`. */
export function wrappingAdapter(
  wrap: (spec: LinearSpec, weight: FrozenWeight, parameters: ParameterSet) => AdaptedLinear,
  parameters: (context: AdapterContext) => readonly ParameterSpec[] = () => [],
): AdapterPlugin {
  return testAdapter("wrapping", (context) => ({ parameters: parameters(context), adapt: wrap }));
}
