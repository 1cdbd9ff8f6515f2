import { createHash } from "node:crypto";
import { ConfigError, DataError, QloraError } from "../../core/errors.ts";
import type { Template, TemplatePlugin } from "../../core/plugin/template.ts";
import type { Dataset } from "./dataset.ts";
import { inlineEncoder, workerEncoder, type Encoder } from "./encoder.ts";
import { digestDataset } from "./fingerprint.ts";
import { contentOf, isText } from "./row.ts";
import { type SpecialRecipe, specialRecipe } from "./special-tokens.ts";
import { defaultCacheDir, readTokenCache, tokenCacheFile, writeTokenCache } from "./token-cache.ts";
import { templateContext } from "./templates/context.ts";
import { createTokenStore, type TokenChunk, type TokenizedDataset, type TokenStore } from "./token-store.ts";
import { readTokenizerFiles, type Tokenizer, type TokenizerBackend } from "./tokenizer.ts";
import type { RowEncodeOptions, RowText } from "./truncation.ts";

export type { TokenizedDataset, TokenLengths } from "./token-store.ts";

/** Part of a cache file's name, so that a file of another layout is never met. */
const CACHE_VERSION = "2";
/** Fewer rows than this are not worth a thread. */
const INLINE_ROWS = 256;
/** Chunks on their way at once, so that the worker never waits for us. */
const LANES = 2;

export type TokenizerOptions = RowEncodeOptions & {
  /** Folder of the tokenizer's files; not needed where every row is input_ids. */
  readonly dir?: string | undefined;
  readonly backend?: TokenizerBackend | undefined;
  /** A tokenizer already loaded; takes the place of `dir` and runs in this thread. */
  readonly tokenizer?: Tokenizer | undefined;
  /** What makes texts of rows, with the folder of the tokenizer that it may ask; undefined: their format. */
  readonly template?: { readonly plugin: TemplatePlugin; readonly dir: string | undefined } | undefined;
  /** The model's vocabulary; an id outside is an error. */
  readonly vocabSize?: number | undefined;
  /** Default true: keep ids on disk, by content. */
  readonly cache?: boolean | undefined;
  /** Default `$XDG_CACHE_HOME/qlora`, else `~/.cache/qlora`. */
  readonly cacheDir?: string | undefined;
  /** Told of what went wrong without being fatal (a cache that cannot be read or written). Default: standard error. */
  readonly onWarning?: ((message: string) => void) | undefined;
};

/** Tokenizes datasets one after the other with one tokenizer. */
export interface DatasetTokenizer {
  /**
   * Starts on a dataset, after those given before.
   * @param order rows in the order in which they will be needed; default: the order of the dataset
   * @throws ConfigError, ModelError, DataError
   */
  tokenize(dataset: Dataset, order?: ArrayLike<number>): Promise<TokenizedDataset>;
  /** Gives up what is not tokenized yet, and waits for a cache file being written. */
  close(): Promise<void>;
}

/** Opens a tokenizer; the tokenizer itself is loaded when a dataset is not in the cache. */
export function openDatasetTokenizer(options: TokenizerOptions): DatasetTokenizer {
  const { maxLength, addBos, addEos, truncation = "right", promptMaxTokens } = options;
  const encodeOptions: RowEncodeOptions = { maxLength, addBos, addEos, truncation, promptMaxTokens };
  const cutting = truncation === "prompt-cap" ? [truncation, promptMaxTokens ?? null] : [truncation];
  const cacheDir = options.cache === false ? undefined : (options.cacheDir ?? defaultCacheDir());
  const warn = options.onWarning ?? ((message: string) => console.warn(message));
  let encoder: Encoder | undefined;
  let running: Promise<void> = Promise.resolve();
  let active = 0;
  let closed = false;

  const startEncoder = (textRows: number): Encoder => {
    if (options.tokenizer !== undefined) return inlineEncoder(options.tokenizer, encodeOptions);
    const source = { dir: options.dir!, backend: options.backend };
    return textRows < INLINE_ROWS ? inlineEncoder(source, encodeOptions) : workerEncoder(source, encodeOptions);
  };

  let template: Promise<Template | undefined> | undefined;
  const liveTemplate = async (): Promise<Template | undefined> =>
    options.template?.plugin.create(await templateContext(options.template.dir));

  const tokenize = async (given: Dataset, order?: ArrayLike<number>): Promise<TokenizedDataset> => {
    if (closed) throw new QloraError("TOKENIZER_CLOSED", "the tokenizer is closed");
    const live = await (template ??= liveTemplate());
    const dataset = live === undefined ? given : { ...given, template: live };
    const texts = dataset.rows.filter(isText).length;
    const { digest, before, after, usual } = texts === 0 ? NO_TOKENIZER : describeTokenizer(options, dataset);
    const recipe = JSON.stringify([digest, maxLength ?? null, ...usual, ...cutting]);
    const store = createTokenStore(dataset, { vocabSize: options.vocabSize, maxLength, order });
    const { contents, all } = digestDataset(dataset);
    const sha256 = (...parts: readonly string[]) => createHash("sha256").update(parts.join("")).digest("hex");
    const [key, fingerprint] = [
      sha256(CACHE_VERSION, recipe, JSON.stringify([before, after]), contents),
      sha256(recipe, all),
    ];
    if (texts === 0) return store.view(fingerprint, false);

    if (cacheDir !== undefined) {
      const found = await readTokenCache(cacheDir, key, dataset.rows.length);
      if (found.kind === "hit") {
        found.rows.forEach((ids, index) => store.accept(index, ids, found.fullLengths[index]!, found.cuts[index]!));
        store.chunks.forEach((chunk) => chunk.resolve());
        return store.view(fingerprint, true);
      }
      if (found.kind === "corrupt")
        warn(`${tokenCacheFile(cacheDir, key)}: damaged token cache (${found.reason}); tokenizing again`);
    }

    active++;
    running = running.then(async () => {
      try {
        encoder ??= startEncoder(texts);
        await encodeAll(store, encoder, () => closed);
        if (cacheDir !== undefined) {
          await writeTokenCache(cacheDir, key, store.tokens()).catch((cause: unknown) =>
            warn(`${tokenCacheFile(cacheDir, key)}: the token cache could not be written: ${(cause as Error).message}`),
          );
        }
      } catch (error) {
        store.chunks.forEach((chunk) => chunk.reject(error));
      }
      if (--active === 0) {
        // Nothing waits: give back the vocabulary's memory and the thread.
        encoder?.close();
        encoder = undefined;
      }
    });
    return store.view(fingerprint, false);
  };

  return {
    tokenize,
    close: async () => {
      closed = true;
      encoder?.close();
      await running;
    },
  };
}

/** What makes ids of texts, known without a vocabulary. */
type TokenizerDescription = SpecialRecipe & { readonly digest: string };

const NO_TOKENIZER: TokenizerDescription = { digest: "", before: [], after: [], usual: [null, null] };

function describeTokenizer(options: TokenizerOptions, dataset: Dataset): TokenizerDescription {
  const { tokenizer, dir, backend, addBos, addEos } = options;
  if (tokenizer !== undefined)
    return { digest: tokenizer.digest, before: [], after: [], usual: [addBos ?? null, addEos ?? null] };
  const { digest, rules } = readTokenizerFiles(requireDir(dir, dataset), backend);
  return { digest, ...specialRecipe(rules, { addBos, addEos }) };
}

function requireDir(dir: string | undefined, dataset: Dataset): string {
  if (dir !== undefined) return dir;
  const row = dataset.rows.find(isText)!;
  throw new ConfigError("TOKENIZER_MISSING", `${row.file}:${row.line} holds text, but no tokenizer is given`, {
    hint: "Use a model folder with a tokenizer.json, or give rows as input_ids.",
  });
}

async function encodeAll(store: TokenStore, encoder: Encoder, isClosed: () => boolean): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    for (let chunk = store.chunks[next++]; chunk !== undefined && !failed; chunk = store.chunks[next++]) {
      if (isClosed()) throw new QloraError("TOKENIZER_CLOSED", "the tokenizer was closed before it was done");
      try {
        await encodeChunk(store, chunk, encoder);
        chunk.resolve();
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

async function encodeChunk({ dataset, accept }: TokenStore, chunk: TokenChunk, encoder: Encoder): Promise<void> {
  const texts = chunk.rows.map((index) => contentOf(dataset.rows[index]!, dataset.template) as RowText);
  const batch = await encoder.encode(texts).catch(async (error: unknown) => {
    throw error instanceof QloraError ? error : await blameRow(dataset, chunk, texts, encoder, error);
  });
  let at = 0;
  chunk.rows.forEach((index, i) =>
    accept(index, batch.ids.subarray(at, (at += batch.lengths[i]!)), batch.fullLengths[i]!, batch.cuts[i]!),
  );
}

/** The library names no row when a batch fails; try them one by one. */
async function blameRow(
  dataset: Dataset,
  chunk: TokenChunk,
  texts: readonly RowText[],
  encoder: Encoder,
  error: unknown,
): Promise<DataError> {
  for (const [i, text] of texts.entries()) {
    try {
      await encoder.encode([text]);
    } catch (cause) {
      const row = dataset.rows[chunk.rows[i]!]!;
      return new DataError("DATA_TOKENIZE_FAILED", `the row cannot be tokenized: ${(cause as Error).message}`, row, {
        cause,
      });
    }
  }
  const first = dataset.rows[chunk.rows[0]!]!;
  const message = `a batch of ${texts.length} rows from here cannot be tokenized: ${(error as Error).message}`;
  return new DataError("DATA_TOKENIZE_FAILED", message, first, { cause: error });
}
