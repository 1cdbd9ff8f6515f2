/** Labels, ids and cells as files of the world have them. */
import { describe, expect, test } from "bun:test";
import { loadDataset } from "../../runtime/data/dataset.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { countLabels } from "../../runtime/data/labels.ts";
import { parsePythonList } from "../../runtime/data/python-list.ts";
import { loadData } from "../../runtime/data/split.ts";
import { swapResponses } from "../../runtime/data/swap.ts";
import { csvRow, rejection, tempFile } from "./files.ts";

const jsonl = (...lines: string[]): string => tempFile("rows.jsonl", lines.join("\n"));
const csv = (...lines: string[]): string => tempFile("rows.csv", `${lines.join("\n")}\n`);
const labelled = (...labels: string[]): string => jsonl(...labels.map((label) => `{"text":"a","label":${label}}`));

describe("labels that are names", () => {
  const read = async (file: string) => {
    const data = await loadDataset(file);
    return { labels: data.rows.map(({ label }) => label), names: data.labelNames, count: countLabels([data]) };
  };

  test("strings, booleans and digits in quotes are classes, sorted, with their names", async () => {
    expect(await read(labelled('"pos"', '"neg"', '"pos"', '"mixed"'))).toEqual({
      labels: [2, 1, 2, 0],
      names: ["mixed", "neg", "pos"],
      count: 3,
    });
    expect(await read(labelled("true", "false"))).toEqual({ labels: [1, 0], names: ["false", "true"], count: 2 });
    expect(await read(labelled('"10"', '"9"', '"1"'))).toEqual({
      labels: [2, 1, 0],
      names: ["1", "9", "10"],
      count: 3,
    });
    expect(await read(labelled('"a"', "1"))).toEqual({ labels: [1, 0], names: ["1", "a"], count: 2 });
    expect(await read(csv("label,text", "spam,a", "ham,b", " spam ,c"))).toEqual({
      labels: [1, 0, 1],
      names: ["ham", "spam"],
      count: 2,
    });
    expect(await read(csv("label,text", "True,a", "False,b"))).toEqual({
      labels: [1, 0],
      names: ["False", "True"],
      count: 2,
    });
  });

  test("indices from 0 have no names, as before; blank ones are none", async () => {
    expect(await read(labelled("1", "0"))).toEqual({ labels: [1, 0], names: undefined, count: 2 });
    expect(await read(csv("label,text", "1,a", "0,b", "1.0,c"))).toEqual({
      labels: [1, 0, 1],
      names: undefined,
      count: 2,
    });
    const { rows } = await loadDataset(csv("label,text", "x,a", ",b"));
    expect(rows.map(({ label }) => label)).toEqual([0, undefined]);
    expect(await rejection(loadData({ train: csv("label,text", "x,a", ",b") }))).toContain(":3: the row has no label");
  });

  test("evaluation has the classes of training, and no others", async () => {
    const train = labelled('"b"', '"a"', '"c"');
    const { evaluation } = await loadData({ train, evaluation: labelled('"c"', '"b"', "0") });
    expect(evaluation!.rows.map(({ label }) => label)).toEqual([2, 1, 0]);
    expect(await rejection(loadData({ train, evaluation: labelled('"c"', '"d"') }))).toContain(
      ':2: got label "d", expected one of "a", "b", "c"',
    );
    expect(await rejection(loadData({ train: labelled("0", "1"), evaluation: labelled('"c"') }))).toContain(
      ':1: label: expected a class index (0, 1, ...), got "c"',
    );
    expect(
      (await loadData({ train: labelled("0", "1"), evaluation: labelled('"1"') })).evaluation!.rows[0]!.label,
    ).toBe(1);
    const truth = await loadData({ train: labelled("true", "false"), evaluation: csv("label,text", "True,a") });
    expect(truth.evaluation!.rows[0]!.label).toBe(1);
    const held = await loadData({ train, nSplits: 3, foldIdx: 1 });
    expect([held.train.labelNames, held.evaluation!.labelNames]).toEqual([
      ["a", "b", "c"],
      ["a", "b", "c"],
    ]);
  });

  test("a column of texts is no column of classes; names have no place beside soft labels", async () => {
    const many = Array.from({ length: 1001 }, (_, i) => `"text ${i}"`);
    expect(await rejection(loadDataset(labelled(...many)))).toContain(
      ":1001: label: more than 1000 different names of classes",
    );
    const soft = csv("text,label,p,q", "a,yes,0.5,0.5");
    expect(await rejection(loadDataset(soft, { softLabelColumns: ["p", "q"] }))).toContain(
      ':2: label: got the name "yes"',
    );
  });

  test("for prediction, labels are not looked at, whatever they are", async () => {
    const files = [
      labelled("0.25", '["x"]', '""', "{}"),
      csv("text,label", "a,", "b,0.7"),
      csv(
        "prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie",
        '"[""p""]","[""a""]","[""b""]",0.2,0.3,0.5',
      ),
      csv("prompt,response_a,response_b,winner", '"[""p""]","[""a""]","[""b""]",?'),
    ];
    for (const file of files) {
      const { rows } = await loadDataset(file, { labelled: false });
      expect(rows.every(({ label }) => label === undefined)).toBe(true);
      expect(await rejection(loadDataset(file))).toContain(file);
    }
  });
});

describe("ids", () => {
  test("that are numbers stay as they are written", async () => {
    const ids = ["1790000000000000123", "1790000000000000124", "-7", "1.50", "1e3", "12345678901234567890123"];
    const lines = ids.map((id, i) => `{"meta":{"id":${i},"q":"\\"id\\":9"},"id" : ${id},"text":"a"}`);
    expect((await loadDataset(jsonl(...lines))).rows.map(({ id }) => id)).toEqual(ids);
    const odd = jsonl(
      '{"text":"a","i\\u0064":12345678901234567}',
      '{"id":1,"text":"a","id":98765432109876543,"x":[{"id":2}]}',
    );
    expect((await loadDataset(odd)).rows.map(({ id }) => id)).toEqual(["12345678901234567", "98765432109876543"]);
  });

  test("beside NaN, infinities and fields nested 100,000 deep, which nothing reads", async () => {
    const deep = `${"[".repeat(1e5)}${"]".repeat(1e5)}`;
    const file = jsonl(
      '{"id":1790000000000000123,"text":"NaN \\"Infinity","score":NaN,"low":-Infinity}',
      `{"deep":${deep},"id":1790000000000000124,"text":"b"}`,
      '{"id":NaN,"text":"c","label":NaN}',
    );
    const rows = (await loadDataset(file)).rows.map(({ id, label, ...row }) => [
      id,
      label,
      row.kind === "text" && row.text,
    ]);
    expect(rows).toEqual([
      ["1790000000000000123", undefined, 'NaN "Infinity'],
      ["1790000000000000124", undefined, "b"],
      ["2", undefined, "c"],
    ]);
  });
});

describe("arena files of the sequel competition and of pandas", () => {
  const cells = async (file: string) =>
    ((await loadDataset(file)).rows as readonly ArenaRow[]).map((row) => [
      row.prompt,
      row.responseA,
      row.responseB,
      row.label,
    ]);
  const classes = async (file: string): Promise<number> => countLabels([await loadDataset(file)]);
  const header = "prompt,response_a,response_b";

  test("plain texts, and a column winner of two values or of the arena's four", async () => {
    const wsdm = csv(`${header},winner`, csvRow("Hi", "Hello", "[1, 2]", "model_a"), csvRow("", "x", "y", "model_b"));
    expect(await cells(wsdm)).toEqual([
      ["Hi", "Hello", "[1, 2]", 0],
      ["", "x", "y", 1],
    ]);
    expect(await classes(wsdm)).toBe(2);
    const row = (winner: string): string => csvRow('["p"]', '["a"]', '["b"]', winner);
    const arena = csv(`${header},winner`, ...["model_b", "tie", "tie (bothbad)", "model_a"].map(row));
    expect((await cells(arena)).map(([, , , label]) => label)).toEqual([1, 2, 2, 0]);
    expect(await classes(arena)).toBe(3);
    expect(await rejection(loadDataset(csv(`${header},winner`, row("gpt-4"))))).toContain(
      ':2: column winner: expected model_a, model_b or tie; A or B; 0, 1 or 2; or the name in column model_a or model_b, got "gpt-4"',
    );
  });

  test("without winner_tie there are two classes, unless a row has no winner; soft labels and swaps follow", async () => {
    const two = `${header},winner_model_a,winner_model_b`;
    const row = (...labels: string[]): string => csvRow('["p"]', '["a"]', '["b"]', ...labels);
    expect(await classes(csv(two, row("1", "0"), row("0", "1")))).toBe(2);
    expect(await classes(csv(two, row("1", "0"), row("0", "0")))).toBe(3);
    expect(await classes(csv(`${two},winner_tie`, row("1", "0", "0")))).toBe(3);
    const soft = await loadDataset(csv(two, row("0.7", "0.3")), {
      softLabelColumns: ["winner_model_a", "winner_model_b"],
    });
    expect(countLabels([soft])).toBe(2);
    expect(swapResponses(soft).rows[0]).toMatchObject({ label: 1, soft: [0.3, 0.7] });
  });

  test("lists as Python prints them", async () => {
    const file = csv(
      header,
      csvRow("['it\\'s', None]", `["it's", 'a "b"\\n']`, "['\\u00e9\\x41\\101\\U0001F600\\d',]"),
    );
    expect(await cells(file)).toEqual([["it's ", `it's a "b"\n`, "éAA😀\\d", undefined]]);
    const numpy = csv(header, csvRow("['a' 'b']", '["a"]', '["b"]'));
    expect(await rejection(loadDataset(numpy))).toContain(
      ":2: column prompt: expected a JSON list of strings and nulls, got \"['a' 'b']\"",
    );
    let hint: string | undefined;
    try {
      await loadDataset(numpy);
    } catch (error) {
      hint = (error as { readonly hint?: string }).hint;
    }
    expect(hint).toContain('df["prompt"] = df["prompt"].map(lambda turns: json.dumps(list(turns)))');
  });

  test("what is no list of strings is none", async () => {
    for (const text of [
      "",
      "[",
      "['a'",
      "['a' 'b']",
      "['a]",
      "[1]",
      "['\\x4']",
      "['a\nb']",
      "[,]",
      "['a',,]",
      "['a'] x",
      "[Nope]",
    ])
      expect(parsePythonList(text)).toBeUndefined();
    expect(parsePythonList(" [ ] ")).toEqual([]);
    // Measured by the time that a quadratic reader would need: minutes.
    expect(parsePythonList(`['${"a\\n".repeat(300_000)}']`)?.[0]?.length).toBe(600_000);
  });
});
