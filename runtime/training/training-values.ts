/** The values that training goes on with, where evaluation and the adapter's files take others: kept in the optimizer's state. */
import type { ParameterSet } from "../../core/compute/parameters.ts";
import { savedTensor, SavedStateReader } from "../../core/compute/saved-state.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Optimizer } from "../../core/plugin/optimizer.ts";

const PREFIX = "training_values/";

/** The optimizer, whose saved state holds the parameters' own values where it gives others for evaluation. */
export function keepTrainingValues(
  optimizer: Optimizer,
  { gpu, parameters }: { readonly gpu: Gpu; readonly parameters: ParameterSet },
): Optimizer {
  if (optimizer.evaluating === undefined) return optimizer;
  return {
    step: (step) => optimizer.step(step),
    evaluating: (on) => optimizer.evaluating!(on),
    destroy: () => optimizer.destroy(),
    async save() {
      const state = new Map(await optimizer.save());
      for (const [name, values] of await parameters.readValues())
        state.set(PREFIX + name, savedTensor("f32", parameters.get(name).shape, values));
      return state;
    },
    load(state) {
      const entries = [...state];
      const isOurs = ([key]: readonly [string, unknown]): boolean => key.startsWith(PREFIX);
      const reader = new SavedStateReader(new Map(entries.filter(isOurs)), "with values for evaluation");
      const values = parameters.parameters.map(
        (parameter) => [parameter, reader.takeFloats(PREFIX + parameter.name, parameter.shape)] as const,
      );
      reader.finish();
      optimizer.load(new Map(entries.filter((entry) => !isOurs(entry))));
      for (const [{ value }, data] of values) gpu.write(value, data);
    },
  };
}
