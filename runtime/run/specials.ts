/** Special tokens of a run: whether bos and eos stand around its texts. Training settles and records it; eval and predict follow. */
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import type { DataOptions, DataOptionsInput } from "../config/data-options.ts";
import { earlierSpecials, readSpecialRules, type SpecialRule, type SpecialSettings } from "../data/special-tokens.ts";
import { hasTokenizer } from "../data/tokenizer.ts";
import { NOTES_FILE } from "../folder/adapter-notes.ts";
import type { TrainedAdapter } from "../folder/find-adapter.ts";
import { RUN_FILES } from "../folder/folder.ts";

/** Settings, and who says so. */
export interface SettledSpecials extends SpecialSettings {
  /** One sentence for people. */
  readonly message: string;
}

/**
 * What training does: what the options say; else bos as the tokenizer's files have it, and an eos wherever there is such a token,
 * as the seed notebook did. undefined for a checkpoint without a tokenizer.
 * @throws ModelError for a damaged file
 */
export function trainingSpecials(
  checkpoint: string,
  { addBosToken, addEosToken }: Pick<DataOptions, "addBosToken" | "addEosToken">,
): SpecialSettings | undefined {
  if (!hasTokenizer(checkpoint)) return undefined;
  const { bos, eos } = readSpecialRules(checkpoint);
  return {
    addBosToken: addBosToken === "auto" ? adds(bos) : addBosToken,
    addEosToken: addEosToken === "auto" ? eos.own !== undefined : addEosToken,
  };
}

const adds = ({ added = [] }: SpecialRule): boolean => added.length > 0;

/**
 * What a trained adapter is run with: what is asked for; else what its run recorded, in run.json or beside the adapter; else what
 * the tokenizer's files in its folder say, as PEFT's users save them; else the base model's. undefined for a base without a tokenizer.
 * @throws ModelError for a damaged file or record
 */
export function inferenceSpecials(
  checkpoint: string,
  asked: DataOptionsInput | undefined,
  { directory, record, beside }: Pick<TrainedAdapter, "directory" | "record" | "beside">,
): SettledSpecials | undefined {
  if (!hasTokenizer(checkpoint)) return undefined;
  const base = readSpecialRules(checkpoint);
  const own = readSpecialRules(directory);
  const earlier = earlierSpecials(base);
  const settle = (key: keyof SpecialSettings, end: "bos" | "eos", was: boolean): readonly [boolean, string] => {
    const given = asked?.[key];
    if (typeof given === "boolean") return [given, "as asked"];
    if (record !== undefined) {
      const recorded: unknown = record.specialTokens?.[key];
      if (typeof recorded === "boolean") return [recorded, "as the run recorded"];
      if (record.specialTokens === undefined) return [was, "as version 0.1.0 trained"];
      throw new ModelError(
        "RUN_DAMAGED",
        `${join(directory, RUN_FILES.record)}: specialTokens.${key} is no true or false`,
        {
          hint: `Say it with --${end === "bos" ? "add-bos-token" : "add-eos-token"} true or false.`,
        },
      );
    }
    const noted = beside.specialTokens?.[key];
    if (noted !== undefined) return [noted, `${NOTES_FILE} beside the adapter`];
    // The adapter's folder may say whether, and leave it to the base which token is meant.
    if (own[end].added !== undefined) return [own[end].flag ?? adds(own[end]), `${own[end].source} beside the adapter`];
    return [adds(base[end]), `${base[end].source ?? "no file"} of the base model`];
  };
  const [addBosToken, bosBy] = settle("addBosToken", "bos", earlier.before.length > 0);
  const [addEosToken, eosBy] = settle("addEosToken", "eos", earlier.after.length > 0);
  const word = (add: boolean): string => (add ? "added" : "not added");
  const ends =
    bosBy === eosBy
      ? `bos ${word(addBosToken)}, eos ${word(addEosToken)} (${bosBy})`
      : `bos ${word(addBosToken)} (${bosBy}), eos ${word(addEosToken)} (${eosBy})`;
  return { addBosToken, addEosToken, message: `special tokens: ${ends}` };
}
