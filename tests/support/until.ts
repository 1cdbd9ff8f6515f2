/** Waiting for what a test expects, not for a time: a busy machine makes it slow, never wrong. */

const PATIENCE_SECONDS = 120;

/** Resolves once it holds. @throws Error naming `what` where it never comes to hold */
export async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE_SECONDS * 1000; performance.now() < end; await Bun.sleep(5))
    if (await holds()) return;
  throw new Error(`not within ${PATIENCE_SECONDS} seconds: ${what}`);
}

/** Gives everything that needs no time of its own its turn: for tests of what must not happen. */
export async function turns(count = 50): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
