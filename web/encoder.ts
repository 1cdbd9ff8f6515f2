/** Rows to token ids where no native library is: Hugging Face's tokenizers in JavaScript, between the run's own specials. */
import { Tokenizer } from "@huggingface/tokenizers";
import { ModelError } from "../core/errors.ts";
import { type Folder, pathIn, readText } from "../core/formats/bytes.ts";
import { parseJsonObject } from "../core/formats/json-object.ts";
import { assemble, type BatchEncoder, encodeRules } from "../runtime/data/encode-batch.ts";
import type { SiteManifest } from "./manifest.ts";

const NONE = { before: [], after: [] };

/** @throws ModelError for a tokenizer that does not load */
export async function openEncoder(folder: Folder, { tokens }: Pick<SiteManifest, "tokens">): Promise<BatchEncoder> {
  const [vocabulary, config] = await Promise.all(
    ["tokenizer.json", "tokenizer_config.json"].map((file) => read(folder, file)),
  );
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(vocabulary!, config!);
  } catch (cause) {
    throw invalid(pathIn(folder, "tokenizer.json"), `does not load (${(cause as Error).message})`, cause);
  }
  // Ids of the fields of a row are asked for without specials, those of whole rows with the run's.
  const specials: BatchEncoder["specials"] = ({ addBos, addEos } = {}) =>
    addBos === false && addEos === false ? NONE : tokens;
  return {
    specials,
    encodeBatch: async (texts, options = {}) =>
      assemble(
        texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }).ids),
        encodeRules(options, specials(options)),
      ),
  };
}

async function read(folder: Folder, file: string): Promise<Record<string, unknown>> {
  const text = (await readText(folder, file)) ?? "{}";
  const bytes = new TextEncoder().encode(text);
  return { ...parseJsonObject(bytes, (problem, cause) => invalid(pathIn(folder, file), problem, cause)) };
}

const invalid = (path: string, problem: string, cause: unknown): ModelError =>
  new ModelError("TOKENIZER_INVALID", `${path}: ${problem}`, { cause, hint: "Write the page anew: qlora export web." });
