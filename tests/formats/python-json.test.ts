import { expect, test } from "bun:test";
import { formatPythonFloat, formatPythonJson, parsePythonJson, pyFloat } from "../../core/formats/python-json.ts";

test("floats are spelled as Python's repr spells them", () => {
  const spelled: [number, string][] = [
    [1, "1.0"],
    [-0, "-0.0"],
    [0, "0.0"],
    [0.1, "0.1"],
    [1e-4, "0.0001"],
    [1e-5, "1e-05"],
    [1.5e-7, "1.5e-07"],
    [9.386666666666667e-5, "9.386666666666667e-05"],
    [-2.5e100, "-2.5e+100"],
    [1e15, "1000000000000000.0"],
    [1e16, "1e+16"],
    [123456789012345680, "1.2345678901234568e+17"],
    [5e-324, "5e-324"],
    [202109110272000, "202109110272000.0"],
    [Number.NaN, "NaN"],
    [Number.NEGATIVE_INFINITY, "-Infinity"],
  ];
  for (const [value, text] of spelled) expect(formatPythonFloat(value)).toBe(text);
});

test("keys are sorted, text is ASCII, empty things stay on their line", () => {
  // What Python 3's json.dumps(..., indent=2, sort_keys=True) gives for the same value.
  expect(
    formatPythonJson({
      b: [[], [1]],
      a: { m: {}, k: 'ä\u2028\u{1F600}\u007f\u001f/"\\' },
      B: pyFloat(2),
      é: null,
      c: true,
    }),
  ).toBe(
    String.raw`{
  "B": 2.0,
  "a": {
    "k": "\u00e4\u2028\ud83d\ude00\u007f\u001f/\"\\",
    "m": {}
  },
  "b": [
    [],
    [
      1
    ]
  ],
  "c": true,
  "\u00e9": null
}`,
  );
});

test("NaN and Infinity are read back, and left alone inside strings", () => {
  const value = { a: Number.NaN, b: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY], c: 'NaN "Infinity\\' };
  expect(parsePythonJson(formatPythonJson(value))).toEqual(value);
  expect(parsePythonJson('{"a": 1}')).toEqual({ a: 1 });
  expect(() => parsePythonJson("{nan}")).toThrow(SyntaxError);
});
