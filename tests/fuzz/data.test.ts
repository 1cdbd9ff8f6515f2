/** Data files as damaged as they come: CSV is held against csv-parse, which our own scan does not know of. */
import { parse } from "csv-parse/sync";
import { scanCsv } from "../../runtime/data/csv-scan.ts";
import { openCsv } from "../../runtime/data/csv.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { parsePythonList } from "../../runtime/data/python-list.ts";
import { fuzz, inFile } from "./harness.ts";

const RECORD_ENDS = ["\r\n", "\n", "\r"];

fuzz({
  name: "csv",
  kind: "text",
  inputs: 300,
  corpus: [
    'id,text,label\n1,"a ""quoted"", text\nof two lines",0\n2,b,1\n',
    "a,b\r\n1,2\n3,4\r5,6\r\r\n\n",
    '"a","b"\r"",""""\r\n",\n",\'x\'\n',
  ],
  run: (input) => {
    const found = scanCsv(Buffer.from(input.bytes));
    const cells = found && Array.from({ length: found.records }, (_, record) => found.read(record));
    if (cells !== undefined) {
      const expected = parse(Buffer.from(input.bytes), { skip_empty_lines: true, record_delimiter: RECORD_ENDS });
      if (JSON.stringify(cells) !== JSON.stringify(expected)) throw new Error("csv-parse reads it otherwise");
    }
    const csv = openCsv(inFile(input, "rows.csv"));
    let last = 1;
    csv.map((row, line) => {
      if (row.length !== csv.header.length) throw new Error(`a row of ${row.length} cells`);
      if (line < last) throw new Error(`line ${line} after ${last}`);
      last = line;
    });
  },
});

/** Every row has what rows have. */
async function checkRows(file: string): Promise<void> {
  for (const options of [{}, { labelled: false }]) {
    const { rows, labelNames } = await loadDataset(file, options);
    for (const { id, label } of rows) {
      if (typeof id !== "string") throw new Error(`id ${String(id)}`);
      if (label !== undefined && !(Number.isInteger(label) && label >= 0)) throw new Error(`label ${label}`);
      if (label !== undefined && labelNames !== undefined && labelNames[label] === undefined)
        throw new Error(`no name of label ${label}`);
    }
  }
}

fuzz({
  name: "jsonl",
  kind: "text",
  inputs: 200,
  corpus: [
    '{"text":"a","label":1,"id":1790000000000000123}\n{"input_ids":[2,5,1],"label":"x"}\n',
    '{"id":"q","text":"\\ud83d","label":true,"score":NaN}\n\n{"text":"b","meta":{"id":[1,{"a":-Infinity}]}}',
  ],
  run: (input) => checkRows(inFile(input, "rows.jsonl")),
});

fuzz({
  name: "classification csv",
  kind: "text",
  inputs: 200,
  corpus: [
    'id,text,label\n1,a,0\n2,"b\n",1\n',
    'input_ids,label\n"[2, 5, 1]",spam\n[7],ham\n',
    "text,label\na,True\nb,\n",
  ],
  run: (input) => checkRows(inFile(input, "rows.csv")),
});

fuzz({
  name: "arena csv",
  kind: "text",
  inputs: 200,
  corpus: [
    'id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n1,"[""p"",null]","[""a""]","[""b\\ud83d""]",1,0,0\n',
    'prompt,response_a,response_b,winner\n"[\'p\', None]","[""it\'s""]","[\'\\x41\\101\']",tie\n',
    "prompt,response_a,response_b,winner\nHi,Hello,[1],model_b\n",
  ],
  run: (input) => checkRows(inFile(input, "arena.csv")),
});

fuzz({
  name: "python list",
  kind: "text",
  inputs: 300,
  corpus: ["['a', \"it's\", None]", "['\\u00e9\\x41\\101\\U0001F600\\d\\\n', ]", "[]", "['a' 'b']"],
  run: ({ text }) => {
    for (const item of parsePythonList(text) ?? [])
      if (item !== null && typeof item !== "string") throw new Error(`item ${typeof item}`);
  },
});
