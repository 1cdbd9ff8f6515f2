/**
 * The demo's task in the arena's form: each question has two answers, each of them helpful or a refusal; the helpful one
 * wins, and two of a kind tie. Seeded: the same rows on every machine.
 */

const TOPICS = [
  ["What colour is the sky?", "The sky is blue because air scatters blue light."],
  ["How do I stay healthy?", "Eat well, sleep enough, and exercise every day."],
  ["What is the largest animal?", "The blue whale is the largest animal in the world."],
  ["Name three fruits.", "Apples, oranges, and bananas are three fruits."],
  ["How many days are in a week?", "There are seven days in a week."],
  ["What do plants need to grow?", "Plants need water, light, and soil to grow."],
  ["Give a tip for a good presentation.", "Practice often and keep your points clear."],
  ["What is the capital of France?", "Paris is the capital city of France."],
  ["How can I save energy at home?", "Turn off the lights and use less hot water."],
  ["Describe the ocean.", "The ocean is a large body of salt water."],
] as const;

const REFUSALS = [
  "I do not know.",
  "Sorry, I cannot answer that question.",
  "No idea, ask someone else.",
  "I am not able to help with this.",
] as const;

/** Mulberry32: uniform numbers in [0, 1). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const cell = (text: string): string => `"${JSON.stringify([text]).replaceAll('"', '""')}"`;

/** `count` rows as CSV with the competition's columns; the three outcomes are equally frequent. */
export function demoCsv(count: number, seed: number): string {
  const next = random(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  const lines = ["id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie"];
  for (let id = 0; id < count; id++) {
    const outcome = id % 3; // 0: A wins, 1: B wins, 2: tie
    const [prompt, helpful] = pick(TOPICS);
    const bothHelpful = next() < 0.5;
    const answer = (good: boolean): string => (good ? helpful : pick(REFUSALS));
    const [a, b] =
      outcome === 2 ? [answer(bothHelpful), answer(bothHelpful)] : [answer(outcome === 0), answer(outcome === 1)];
    const winners = [0, 1, 2].map((label) => (label === outcome ? 1 : 0));
    lines.push([id, "demo-a", "demo-b", cell(prompt), cell(a), cell(b), ...winners].join(","));
  }
  return `${lines.join("\n")}\n`;
}
