import { readLabels, readProbabilities } from "../../sdk/probabilities.ts";
import { fuzz, inFile } from "./harness.ts";

fuzz({
  name: "probabilities",
  kind: "text",
  corpus: [
    "id,winner_model_a,winner_model_b,winner_tie\n1,0.25,0.25,0.5\nb,1,0,0\n",
    'label_0,id,label_1\r\n1e-3,"a,""b""",0.999\r\n0.5,7,0.5\r\n',
  ],
  run: (input) => {
    const { columns, rows } = readProbabilities(inFile(input, "probabilities.csv"));
    for (const { id, values } of rows) {
      if (values.length !== columns.length) throw new Error(`row ${id} has ${values.length} values`);
      const sum = values.reduce((total, value) => total + value, 0);
      if (!(Math.abs(sum - 1) < 2e-3)) throw new Error(`row ${id} sums to ${sum}`);
    }
  },
});

fuzz({
  name: "labels",
  kind: "text",
  corpus: [
    "id,label\n1,0\n2,3\n",
    "id,winner_model_a,winner_model_b,winner_tie\n1,0,0,1\n",
    "id,winner\n1,model_a\n2,tie\n",
  ],
  run: async (input) => {
    for (const label of (await readLabels(inFile(input, "labels.csv"))).values())
      if (!(Number.isInteger(label) && label >= 0)) throw new Error(`label ${label}`);
  },
});
