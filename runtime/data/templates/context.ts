/** What a template gets of the model's tokenizer: its chat template. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ModelError } from "../../../core/errors.ts";
import { isObject } from "../../../core/formats/json-object.ts";
import type { TemplateContext } from "../../../core/plugin/template.ts";
import { loadPackage } from "../../packages.ts";
import { readTokenizerJson } from "../special-tokens.ts";

const CONFIG = "tokenizer_config.json";
const FILE = "chat_template.jinja";

type Json = Readonly<Record<string, unknown>>;

/** A tokenizer's chat template: a file of its own, else what tokenizer_config.json holds; of several, the one called default. */
function chatSource(dir: string, config: Json): string | undefined {
  const file = join(dir, FILE);
  if (existsSync(file)) return readFileSync(file, "utf8");
  const value = config["chat_template"];
  if (typeof value === "string") return value;
  const named: unknown = Array.isArray(value)
    ? value.find((entry) => isObject(entry) && entry["name"] === "default")
    : undefined;
  const text = isObject(named) ? named["template"] : undefined;
  return typeof text === "string" ? text : undefined;
}

/** Special tokens as a chat template names them: bos_token, eos_token and so on. */
function specialTokens(config: Json): Json {
  const tokens = Object.entries(config).flatMap(([key, value]) => {
    const token = isObject(value) ? value["content"] : value;
    return key.endsWith("_token") && typeof token === "string" ? [[key, token] as const] : [];
  });
  return Object.fromEntries(tokens);
}

/** Reads what the templates of a tokenizer's folder need. @throws ModelError for a damaged file, or a chat template that is none */
export async function templateContext(dir: string | undefined): Promise<TemplateContext> {
  const config = dir === undefined ? {} : readTokenizerJson(join(dir, CONFIG));
  const source = dir === undefined ? undefined : chatSource(dir, config);
  const invalid = (cause: unknown): ModelError =>
    new ModelError("CHAT_TEMPLATE_INVALID", `${dir}: its chat template fails: ${(cause as Error).message}`, {
      hint: "It may refuse such messages (a system's, or two of one role in a row): use another --template.",
      cause,
    });
  if (source === undefined) {
    return {
      renderChat: () => {
        throw new ModelError("CHAT_TEMPLATE_MISSING", `${dir ?? "the model"}: its tokenizer has no chat template`, {
          hint: `Put a ${FILE} beside its tokenizer.json, or use --template tags or a text with fields.`,
        });
      },
    };
  }
  const { Template: Jinja } = await loadPackage(import("@huggingface/jinja"), {
    name: "@huggingface/jinja",
    task: "reading a chat template",
    hint: "Reinstall the packages, or use another --template.",
  });
  const made = ((): InstanceType<typeof Jinja> => {
    try {
      return new Jinja(source);
    } catch (cause) {
      throw invalid(cause);
    }
  })();
  const tokens = specialTokens(config);
  return {
    renderChat: (messages, addGenerationPrompt) => {
      try {
        return made.render({ ...tokens, messages, add_generation_prompt: addGenerationPrompt });
      } catch (cause) {
        throw invalid(cause);
      }
    },
  };
}
