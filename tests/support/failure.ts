/** What a promise fails with, as its user reads it: `ConfigError: ...`; "no error" where it does not. */
export const failure = (wanted: Promise<unknown>): Promise<string> =>
  wanted.then(
    () => "no error",
    (error: Error) => `${error.name}: ${error.message}`,
  );
