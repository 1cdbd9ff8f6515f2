import { describe, expect, test } from "bun:test";
import { ConfigError } from "../../core/errors.ts";
import { defineOptions, option } from "../../core/options/options.ts";
import { definePlugin, isPlugin, isPluginFactory, type Plugin } from "../../core/plugin/factory.ts";

const scaler = definePlugin("adapter", {
  name: "scaler",
  options: defineOptions({ scale: option("number > 0", { default: 2, help: "factor" }) }),
  create: ({ scale }, value: number) => scale * value,
});
const reader = definePlugin("model", {
  name: "reader",
  options: defineOptions({ folder: option("string", { help: "folder" }) }),
  create: ({ folder }) => folder,
});

describe("definePlugin", () => {
  test("a factory is called with options and gives a value with its create bound", () => {
    const value = scaler({ scale: 3 });
    expect(value).toMatchObject({ kind: "adapter", name: "scaler", options: { scale: 3 }, input: { scale: 3 } });
    expect(value.create(5)).toBe(15);
    expect(scaler().create(5)).toBe(10);
    expect(scaler.name).toBe("scaler");
  });

  test("wrong options name the kind and the option", () => {
    expect(() => reader.configure({})).toThrow("model.folder: got nothing, expected a string");
    expect(() => scaler.configure({ sclae: 1 })).toThrow(ConfigError);
  });

  test("a definition that lacks a part is told at once", () => {
    const half = { name: "half", create: () => 1 } as unknown as Parameters<typeof definePlugin>[1];
    expect(() => definePlugin("adapter", half)).toThrow(
      "the definition of adapter half: options: got nothing, expected what defineOptions returns",
    );
    const bare = { name: "", options: scaler.options } as unknown as Parameters<typeof definePlugin>[1];
    expect(() => definePlugin("metric", bare)).toThrow(
      'the definition of a metric: name: got "", expected a name; create: got nothing, expected a function',
    );
  });

  test("kinds are told apart by their stamp, not by instanceof", () => {
    expect(isPluginFactory(scaler)).toBe(true);
    expect(isPluginFactory(scaler, "model")).toBe(false);
    expect(isPluginFactory(scaler())).toBe(false);
    expect(isPluginFactory({ kind: "adapter", name: "x" })).toBe(false);
    expect(isPlugin(scaler(), "adapter")).toBe(true);
    expect(isPlugin(scaler, "adapter")).toBe(false);
    expect(isPlugin({ ...scaler() }, "adapter")).toBe(true);
  });
});

// Types: read by the compiler, never run.
export function types(): void {
  const erased: Plugin = scaler();
  const result: number = scaler().create(1);
  const scale: number = scaler().options.scale;
  // @ts-expect-error an unknown option
  scaler({ sclae: 1 });
  // @ts-expect-error a wrong type
  scaler({ scale: "1" });
  // @ts-expect-error the folder must be given
  reader();
  // @ts-expect-error create takes a number
  scaler().create("1");
  // @ts-expect-error an adapter is no model
  const model: Plugin<"model"> = scaler();
  void [erased, result, scale, model];
}
