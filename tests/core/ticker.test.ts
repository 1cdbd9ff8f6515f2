import { expect, test } from "bun:test";
import { restBetweenTicks, type Ticker } from "../../runtime/device/providers.ts";

test("with a software driver a wait asks once a millisecond at most, in place of spinning on a core", async () => {
  const done = Promise.withResolvers<void>();
  const ASKED_UNTIL_DONE = 40;
  const asked: number[] = [];
  let waiting = 0;
  const ticker: Ticker = {
    register() {
      waiting++;
      this.scheduleTick();
    },
    scheduleTick: () => {
      throw new Error("the spinning one");
    },
    hasWaiting: () => waiting > 0,
    processEvents() {
      asked.push(performance.now());
      if (performance.now() - asked[0]! < ASKED_UNTIL_DONE || waiting === 0) return;
      waiting = 0;
      done.resolve();
    },
  };
  restBetweenTicks({ _ticker: ticker });
  restBetweenTicks({ _ticker: ticker });
  ticker.register();
  await done.promise;
  const late = asked.filter((at) => at - asked[0]! > 2);
  expect(late.length).toBeGreaterThan(0);
  expect(late.length).toBeLessThanOrEqual(ASKED_UNTIL_DONE);
  const count = asked.length;
  await Bun.sleep(5);
  expect(asked).toHaveLength(count); // nobody waits: nobody asks
});
