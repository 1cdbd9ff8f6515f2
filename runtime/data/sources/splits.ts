/** Which split a file belongs to, by its name, as Hugging Face's datasets tells it. */

const KEYWORDS = {
  train: ["train", "training"],
  validation: ["validation", "valid", "val", "dev"],
  test: ["test", "testing", "eval", "evaluation"],
} as const;

/** A split that names tell. */
export type SplitName = keyof typeof KEYWORDS;

/** The split whose word stands by itself in a name, after no letter and before none; undefined where none does. */
export function splitOf(name: string): SplitName | undefined {
  for (const [split, words] of Object.entries(KEYWORDS)) {
    const found = words.some((word) => new RegExp(`(^|[^a-z])${word}($|[^a-z])`, "i").test(name));
    if (found) return split as SplitName;
  }
  return undefined;
}
