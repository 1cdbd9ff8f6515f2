import { PluginError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import type {
  ReporterContext,
  ReporterEntry,
  ReporterFile,
  ReporterPlugin,
  ReporterRequest,
  ReporterState,
} from "../core/plugin/reporter.ts";
import { type Check, expectThat } from "./contract.ts";

/** An answer of the server that stands in for the tracker's. */
export interface StandInAnswer {
  /** Default 200. */
  readonly status?: number;
  /** Default: an empty object. */
  readonly json?: unknown;
}

/** What the reporter contract is held with. */
export interface ReporterContractOptions {
  /** Answers as the tracker's server does. Default: 200 and an empty object. */
  readonly answer?: (url: string, request: ReporterRequest) => StandInAnswer;
  /** Environment variables that the reporter needs; keys it gets in any case. */
  readonly env?: Readonly<Record<string, string>>;
}

const checkOptions = defineRequest<ReporterContractOptions>("reporterContract", {
  answer: "Function?",
  env: "object?",
});

/** What every secret is here. */
const SECRET = "s3cret-of-the-contract";

const ENTRIES: readonly ReporterEntry[] = [
  { step: 10, epoch: 0.5, loss: 1.25, grad_norm: Number.NaN, learning_rate: 1e-4 },
  { step: 10, epoch: 0.5, eval_loss: 1.125, eval_log_loss: 1.0625 },
  { step: 20, epoch: 1, loss: Number.POSITIVE_INFINITY, grad_norm: 2, learning_rate: 0 },
  { step: 20, epoch: 1, train_loss: 1.1, train_runtime: 3.5 },
];

const FILES: readonly ReporterFile[] = [
  { name: "report.html", type: "report", read: async () => new TextEncoder().encode("<html>") },
  { name: "adapter_model.safetensors", type: "adapter", read: async () => new Uint8Array(8) },
];

const RUN = { name: "contract", config: { training: { learningRate: 1e-4 }, data: { trainFiles: ["a.csv"] } } };

/** A machine that keeps what a reporter does. */
class StandIn {
  readonly requests: { readonly url: string; readonly request: ReporterRequest }[] = [];
  readonly files = new Map<string, number[]>();
  /** Fails every request and every write from now on. */
  broken = false;
  readonly context: ReporterContext;

  constructor({ answer = () => ({}), env = {} }: ReporterContractOptions) {
    const work = (what: string): void => {
      if (this.broken) throw new PluginError("REPORTER_FAILED", `${what}: the stand-in is broken`);
    };
    this.context = {
      request: async (url, request = {}) => {
        this.requests.push({ url, request });
        work(url);
        const { status = 200, json = {} } = answer(url, request);
        if (status >= 400 && request.expect?.includes(status) !== true)
          throw new PluginError("REPORTER_FAILED", `${url} answered ${status}`);
        return { status, text: JSON.stringify(json), json: () => json };
      },
      env: (name) => env[name],
      secret: () => SECRET,
      files: async () => [...this.files.keys()],
      createFile: async (name) => {
        work(name);
        expectThat(!this.files.has(name), `${name} is made twice: a later start must not overwrite an earlier file`);
        const bytes: number[] = [];
        this.files.set(name, bytes);
        return {
          path: `/${name}`,
          append: async (piece) => {
            work(name);
            bytes.push(...piece);
          },
          close: async () => {},
        };
      },
      processName: "host.1",
      now: () => 1_700_000_000,
    };
  }
}

/**
 * What a run relies on of every reporter: it takes a run from its start to its end, whatever numbers are in it and however entries are
 * batched; what fails is thrown, so that the entries come again; its state is JSON and starts the same run again; keys go into
 * headers and bodies alone.
 * @example
 * for (const { name, run } of reporterContract(tensorboard())) test(name, run);
 */
export function reporterContract(plugin: ReporterPlugin, options: ReporterContractOptions = {}): readonly Check[] {
  const given = checkOptions(options);
  const started = async (
    machine: StandIn,
    before?: ReporterState,
  ): Promise<{ reporter: ReturnType<typeof plugin.create>; state: ReporterState | undefined }> => {
    const reporter = plugin.create(machine.context);
    const state = await reporter.start({ ...RUN, firstStep: 1, before });
    return { reporter, state };
  };
  const check = (name: string, run: () => Promise<void>): Check => ({ name: `${plugin.name}: ${name}`, run });

  return [
    check("takes a run from its start to its end, in batches of any size", async () => {
      for (const size of [1, 3, ENTRIES.length]) {
        const { reporter } = await started(new StandIn(given));
        for (let at = 0; at < ENTRIES.length; at += size) await reporter.log(ENTRIES.slice(at, at + size), at);
        for (const file of FILES) await reporter.artefact(file);
        await reporter.finish("finished");
      }
    }),
    check("takes a run that was interrupted, or failed before its first entry", async () => {
      for (const status of ["interrupted", "failed"] as const) {
        const { reporter } = await started(new StandIn(given));
        await reporter.finish(status);
      }
    }),
    check("sends or writes something for entries, and throws where it cannot", async () => {
      const machine = new StandIn(given);
      const { reporter } = await started(machine);
      const before = machine.requests.length + [...machine.files.values()].flat().length;
      await reporter.log(ENTRIES.slice(0, 1), 0);
      const after = machine.requests.length + [...machine.files.values()].flat().length;
      expectThat(after > before, "log sent nothing and wrote nothing");
      machine.broken = true;
      const thrown = await reporter.log(ENTRIES.slice(1), 1).then(
        () => false,
        () => true,
      );
      expectThat(thrown, "log did not throw where nothing could be sent or written: the entries would be lost");
      machine.broken = false;
      await reporter.log(ENTRIES.slice(1), 1); // as they come again
    }),
    check("its state is JSON, and starts the same run again", async () => {
      const { state } = await started(new StandIn(given));
      const json = JSON.stringify(state);
      const read = json === undefined ? undefined : (JSON.parse(json) as ReporterState);
      const again = (await started(new StandIn(given), read)).state;
      expectThat(JSON.stringify(again) === json, `a second start gave ${JSON.stringify(again)}, expected ${json}`);
    }),
    check("keys go into headers and bodies alone", async () => {
      const machine = new StandIn(given);
      const { reporter, state } = await started(machine);
      await reporter.log(ENTRIES, 0);
      for (const file of FILES) await reporter.artefact(file);
      await reporter.finish("finished");
      const inUrl = machine.requests.find(({ url }) => url.includes(SECRET));
      expectThat(inUrl === undefined, `a request's address holds the key: ${inUrl?.url.replace(SECRET, "***")}`);
      expectThat(!JSON.stringify(state ?? {}).includes(SECRET), "the state holds the key");
    }),
    check("two runs share nothing", async () => {
      const [a, b] = [new StandIn(given), new StandIn(given)];
      const [first, second] = [await started(a), await started(b)];
      await first.reporter.log(ENTRIES, 0);
      await first.reporter.finish("finished");
      const before = b.requests.length;
      await second.reporter.log(ENTRIES, 0);
      expectThat(
        b.requests.length > before || [...b.files.values()].flat().length > 0,
        "entries of the second run did not reach its own server",
      );
    }),
  ];
}
