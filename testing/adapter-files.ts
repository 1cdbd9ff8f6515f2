/** The part of the adapter contract that is about its files. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { elementCount } from "../core/device/tensor.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_METADATA,
  ADAPTER_WEIGHTS_FILE,
  readAdapterConfig,
} from "../core/formats/peft.ts";
import type { Adapter, AdapterFactory } from "../core/plugin/adapter.ts";
import { openFolder, openSafetensors, writeFiles, writeSafetensors } from "../runtime/files/folder.ts";
import { withFrozenValues } from "../runtime/session/adapter-values.ts";
import { show, type Subject, trainedOf } from "./adapter-subject.ts";
import { expectModelError, expectSameBits, expectThat } from "./contract.ts";
import type { NamedValues } from "./model-bench.ts";

/** @param optional frozen tensors, which a file may lack */
function expectSameMaps(got: NamedValues, want: NamedValues, what: string, optional: ReadonlySet<string>): void {
  const [extra] = [...got.keys()].filter((name) => !want.has(name));
  expectThat(extra === undefined, `${what}: holds ${extra}, which is no parameter and no frozen tensor`);
  for (const [name, value] of want) {
    if (!got.has(name) && optional.has(name)) continue;
    expectThat(got.has(name), `${what}: ${name} is missing`);
    expectSameBits(got.get(name)!, value, `${what}, ${name}`);
  }
}

const frozenNames = ({ frozen = [] }: Adapter): ReadonlySet<string> => new Set(frozen.map(({ name }) => name));

export async function restoresExactly(subject: Subject): Promise<void> {
  await subject.saved(async (directory, values, adapter) => {
    const frozen = frozenNames(adapter);
    const load = async (by: Adapter, what: string): Promise<void> =>
      expectSameMaps(await by.load(openFolder(directory)), values, what, frozen);
    await load(adapter, "loaded by the adapter that saved");
    const fresh = await subject.adapter(subject.seed + 1);
    await load(fresh, "loaded by another adapter");
    await using file = await openSafetensors(join(directory, ADAPTER_WEIGHTS_FILE));
    const trained = (names: Iterable<string>): string =>
      [...names]
        .filter((name) => !frozen.has(name))
        .sort()
        .join();
    expectThat(
      trained(file.tensors.keys()) === trained(values.keys()),
      `${ADAPTER_WEIGHTS_FILE} holds ${[...file.tensors.keys()].join(", ")}, expected ${[...values.keys()].join(", ")}`,
    );
    const names = [ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE];
    const before = await Promise.all(names.map((name) => readFile(join(directory, name))));
    await writeFiles(directory, await fresh.save(values));
    for (const [i, name] of names.entries())
      expectSameBits(await readFile(join(directory, name)), before[i]!, `${name} saved again, bytes`);
  });
}

export async function isFoundByItsConfig(subject: Subject): Promise<void> {
  await subject.saved(async (directory, values) => {
    const config = await readAdapterConfig(openFolder(directory));
    const factory = subject.plugin.factory as Partial<AdapterFactory>;
    expectThat(factory.reads?.(config) === true, `reads() does not know the ${ADAPTER_CONFIG_FILE} that save() wrote`);
    const plugin = factory.fromConfig!(config);
    const again = await subject.adapter(subject.seed, plugin);
    const want = (await subject.adapter()).parameters;
    expectThat(
      again.parameters.map(({ name, shape }) => name + show(shape)).join() ===
        want.map(({ name, shape }) => name + show(shape)).join(),
      `the adapter that ${ADAPTER_CONFIG_FILE} describes has other parameters: ${again.parameters.length}, expected ${want.length}`,
    );
    expectSameMaps(
      withFrozenValues(again, await again.load(openFolder(directory))),
      values,
      `loaded by the adapter that ${ADAPTER_CONFIG_FILE} describes`,
      new Set(),
    );
    const samples = await subject.samples();
    const trained = await subject.with(async (bench) => {
      bench.write(trainedOf(bench, values));
      return bench.logits(samples);
    });
    const restored = await subject.with((bench) => bench.logits(samples), plugin, directory);
    expectSameBits(restored, trained, "logits after save and load");
  });
}

export async function refusesStrangeFiles(subject: Subject): Promise<void> {
  await subject.saved(async (directory, _, adapter) => {
    const { head } = await subject.outline();
    const path = join(directory, ADAPTER_WEIGHTS_FILE);
    const saved: { name: string; shape: readonly number[]; data: Float32Array }[] = [];
    {
      await using file = await openSafetensors(path);
      for (const [name, { shape }] of file.tensors)
        saved.push({ name, shape, data: new Float32Array((await file.read(name)).slice().buffer) });
    }
    const write = (tensors: readonly { name: string; shape: readonly number[]; data: Float32Array }[]): Promise<void> =>
      writeSafetensors(
        path,
        tensors.map(({ name, shape, data }) => {
          const fitting = Float32Array.from({ length: elementCount(shape) }, (_unused, i) => data[i] ?? 0);
          return [name, { dtype: "F32", shape, data: fitting }] as const;
        }),
        ADAPTER_METADATA,
      );
    const load = (): Promise<unknown> => adapter.load(openFolder(directory));
    for (const victim of [adapter.parameters[0]!, [...adapter.parameters, ...head].at(-1)!]) {
      const { name, shape } = victim;
      const wrong = [shape[0]! + 1, ...shape.slice(1)];
      await write(saved.map((each) => (each.name === name ? { ...each, shape: wrong } : each)));
      await expectModelError(
        load,
        [name, show(wrong), show(shape)],
        `load of a file whose ${name} is ${show(wrong)}, not ${show(shape)}`,
      );
      await write(saved.filter((each) => each.name !== name));
      await expectModelError(load, [name], `load of a file without ${name}`);
    }
    await write([...saved, { name: "nobody.weight", shape: [1], data: new Float32Array(1) }]);
    await expectModelError(load, ["nobody.weight"], "load of a file with the unknown tensor nobody.weight");
  });
}
