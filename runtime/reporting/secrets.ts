/** Keys that a reporter has read: no message may hold one. */

/** Strikes secrets from text. */
export class Secrets {
  readonly #values = new Set<string>();

  /** Remembers a value, and the forms in which it is sent or echoed. */
  add(value: string): void {
    for (const form of [value, encodeURIComponent(value), JSON.stringify(value).slice(1, -1)]) this.#values.add(form);
  }

  /** `text` with `***` in place of every secret, the longest first. */
  strike(text: string): string {
    const longestFirst = [...this.#values].toSorted((a, b) => b.length - a.length);
    return longestFirst.reduce((left, value) => left.replaceAll(value, "***"), text);
  }
}
