/**
 * Names of tensors as transformers' classes have them now. Checkpoints of images and text were published under older names, which
 * transformers maps as it loads them (`_checkpoint_conversion_mapping` of modeling_gemma3.py and its like).
 */
const RENAMED = [
  ["language_model.model.", "model.language_model."],
  ["language_model.lm_head.", "lm_head."],
  ["vision_tower.", "model.vision_tower."],
  ["multi_modal_projector.", "model.multi_modal_projector."],
] as const;

/**
 * The name that a tensor of a checkpoint, or a module, has in transformers today.
 * @example currentKey("language_model.model.norm.weight"); // "model.language_model.norm.weight"
 */
export function currentKey(name: string): string {
  // A module is named without the dot that follows it in its tensors' names.
  const found = RENAMED.find(([old]) => name.startsWith(old) || `${name}.` === old);
  return found === undefined ? name : `${found[1]}${name.slice(found[0].length)}`.replace(/\.$/, "");
}
