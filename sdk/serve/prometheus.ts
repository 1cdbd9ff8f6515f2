/** Figures of a server in Prometheus' text format. */

/** Upper bounds of a request's seconds, as Prometheus' clients have them by default. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Upper bounds of the rows of a batch. */
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128];

/** A gauge, read when it is asked for. */
export interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly value: () => number;
}

class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  add(value: number): void {
    this.#sum += value;
    this.#count++;
    this.#bounds.forEach((bound, i) => {
      if (value <= bound) this.#counts[i]!++;
    });
  }

  lines(name: string): string[] {
    return [
      ...this.#bounds.map((bound, i) => `${name}_bucket{le="${bound}"} ${this.#counts[i]}`),
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}

/** What a server counts. */
export class ServerMetrics {
  readonly #requests = new Map<string, number>();
  readonly #seconds = new Histogram(SECONDS);
  readonly #batchRows = new Histogram(ROWS);
  #tokens = 0;
  #busy = 0;
  readonly #gauges: readonly Gauge[];

  constructor(gauges: readonly Gauge[]) {
    this.#gauges = gauges;
  }

  request(path: string, status: number, seconds: number): void {
    const key = `path="${path}",status="${status}"`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
    this.#seconds.add(seconds);
  }

  batch({ rows, tokens, seconds }: { readonly rows: number; readonly tokens: number; readonly seconds: number }): void {
    this.#batchRows.add(rows);
    this.#tokens += tokens;
    this.#busy += seconds;
  }

  /** The page of `/metrics`. */
  text(): string {
    const metric = (name: string, type: string, help: string, lines: readonly string[]): string =>
      [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines, ""].join("\n");
    const counts = [...this.#requests].map(([labels, count]) => `qlora_requests_total{${labels}} ${count}`);
    return [
      metric("qlora_requests_total", "counter", "Requests answered, by path and status.", counts),
      metric(
        "qlora_request_seconds",
        "histogram",
        "Time from a request to its answer.",
        this.#seconds.lines("qlora_request_seconds"),
      ),
      metric("qlora_batch_rows", "histogram", "Rows of a batch on the GPU.", this.#batchRows.lines("qlora_batch_rows")),
      metric("qlora_tokens_total", "counter", "Tokens that the GPU has read.", [`qlora_tokens_total ${this.#tokens}`]),
      metric("qlora_gpu_seconds_total", "counter", "Time that batches took.", [
        `qlora_gpu_seconds_total ${this.#busy}`,
      ]),
      ...this.#gauges.map(({ name, help, value }) => metric(name, "gauge", help, [`${name} ${value()}`])),
    ].join("");
  }
}
