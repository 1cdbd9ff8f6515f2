import { resolve } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { addPackage, loadPackage } from "../packages.ts";
import type { ContentEncoder } from "./content-encoder.ts";

/** Loads a folder's tokenizer with transformers.js (no network). The only file that imports that package. @throws ModelError, QloraError PACKAGE_NOT_LOADED */
export async function loadAutoTokenizer(dir: string): Promise<ContentEncoder> {
  const { AutoTokenizer } = await loadPackage(import("@huggingface/transformers"), {
    name: "@huggingface/transformers",
    task: `reading the tokenizer of ${dir} with AutoTokenizer`,
    hint: `Add it (${addPackage("@huggingface/transformers")}), or put a tokenizer.json beside the weights, which needs no AutoTokenizer.`,
  });
  try {
    const tokenizer = await AutoTokenizer.from_pretrained(resolve(dir), { local_files_only: true });
    const vocabulary = tokenizer.get_vocab();
    return {
      vocabSize: vocabulary.size,
      tokenToId: (token) => vocabulary.get(token),
      encode: async (texts) => texts.map((text) => tokenizer.encode(text, { add_special_tokens: false })),
    };
  } catch (cause) {
    throw new ModelError(
      "TOKENIZER_INVALID",
      `${dir}: AutoTokenizer cannot load the tokenizer: ${(cause as Error).message}`,
      {
        cause,
        hint: "The folder needs tokenizer.json and tokenizer_config.json; convert older tokenizers with transformers (save_pretrained).",
      },
    );
  }
}
