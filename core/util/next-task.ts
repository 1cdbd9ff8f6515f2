/** Resolves in a later turn of the event loop, when callbacks of the GPU and timers have had theirs. */
export const nextTask = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
