import type { ModelLoader } from "../../core/plugin/model.ts";

/** The model with every row of its last block computed, as for somebody who looks at hidden states. */
export function withWholeBlocks(source: ModelLoader): ModelLoader {
  return {
    ...source,
    async load(context) {
      const model = await source.load(context);
      return {
        head: model.head,
        record: model.record,
        weight: (linear) => model.weight(linear),
        bind: (linears, parameters) => model.bind(linears, parameters),
        forward: (tape, batch, options) => model.forward(tape, batch, { ...options, onHidden: () => {} }),
        destroy: () => model.destroy(),
      };
    },
  };
}
