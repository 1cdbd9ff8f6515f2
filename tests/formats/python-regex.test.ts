import { describe, expect, test } from "bun:test";
import { pythonPattern } from "../../core/adapter/python-regex.ts";
import { ConfigError } from "../../core/errors.ts";

const q = "model.layers.12.self_attn.q_proj";

describe("Python's regular expressions", () => {
  // What CPython 3.11's re.fullmatch(pattern, text) says.
  const cases: [pattern: string, text: string, matches: boolean][] = [
    [String.raw`.*\.(?P<proj>q|v)_proj`, q, true],
    [String.raw`.*\.(?P<proj>k|v)_proj`, q, false],
    [String.raw`(?i).*\.Q_PROJ`, q, true],
    [String.raw`.*\.(?i:Q)_PROJ`, q, false],
    [String.raw`model\.layers\.(?!1\d\.).*`, q, false],
    [String.raw`model\.layers\.(?!2\d\.).*`, q, true],
    [String.raw`.*(?<=self_attn\.)[qk]_proj`, q, true],
    [String.raw`.*(?<!self_attn\.)[qk]_proj`, q, false],
    [String.raw`\Amodel\..*_proj\Z`, q, true],
    [String.raw`.*\.\d{,2}\..*`, q, true],
    [String.raw`.*\.\d{3,}\..*`, q, false],
    [String.raw`[]a-z.0-9_]+`, q, true],
    [String.raw`(?x) .* \. [qk] _proj  # attention`, q, true],
    [String.raw`model(?#comment)\..*`, q, true],
    [String.raw`.*\bq_proj`, q, true],
    ["a{,}b{}", "aab{}", true],
    ["^a$", "a", true],
    [String.raw`a\nb`, "a\nb", true],
    ["a.b", "a\nb", false],
    ["(?s)a.b", "a\nb", true],
    ["(a|ab)(c|bcd)(d*)", "abcd", true],
    ["(a*)*b?", "aaa", true],
    ["()*", "", true],
    ["(?:x{0,2}){3}", "xxxxxx", true],
    ["(?:x{0,2}){3}", "xxxxxxx", false],
  ];
  for (const [pattern, text, matches] of cases) {
    test(`${JSON.stringify(pattern)} ${matches ? "matches" : "does not match"} ${JSON.stringify(text)}`, () => {
      expect(pythonPattern(pattern, "targetModules")(text)).toBe(matches);
    });
  }

  const refused: [pattern: string, says: string][] = [
    ["(q|k)_\\1", "a backreference \\1, which is not supported,"],
    ["(?P<a>q)(?P=a)", "a backreference (?P=name)"],
    ["(q)?(?(1)a|b)", "a conditional"],
    ["(?>q|k)_proj", "an atomic group"],
    ["q++_proj", "a possessive quantifier"],
    ["(", "unexpected end of pattern|missing )"],
    ["q)", "unbalanced parenthesis"],
    ["*q", "nothing to repeat"],
    ["q**", "multiple repeat"],
    ["[q", "unterminated character set"],
    [String.raw`\y`, "bad escape \\y"],
    ["q{3,1}", "min repeat greater than max repeat"],
    ["(".repeat(10_000), "nested more than 200 deep"],
    ["q".repeat(10_001), "expected at most 10000"],
  ];
  for (const [pattern, says] of refused) {
    test(`${pattern.slice(0, 30)} is refused by name`, () => {
      const read = (): unknown => pythonPattern(pattern, "excludeModules");
      expect(read).toThrow(ConfigError);
      const message = ((): string => {
        try {
          return String(read());
        } catch (error) {
          return (error as Error).message;
        }
      })();
      expect(
        says.split("|").some((part) => message.includes(part)),
        message,
      ).toBe(true);
      expect(message).toStartWith("excludeModules: the regular expression ");
      expect(message.length).toBeLessThan(400);
    });
  }

  test("patterns that backtrack for ever elsewhere are answered at once", () => {
    const started = performance.now();
    const long = `${"a".repeat(60)}!`;
    for (const pattern of [
      "(a+)+",
      "(a|a)*",
      "(a|aa)+",
      "(.*)*x",
      "(a*)*(a*)*(a*)*b",
      "((a{1,30}){1,30}){1,30}",
      "(?=(a+)+b).*",
    ]) {
      expect(pythonPattern(pattern, "targetModules")(long)).toBe(false);
      expect(pythonPattern(pattern, "targetModules")("a")).toBe(!/[xb]/.test(pattern));
    }
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
