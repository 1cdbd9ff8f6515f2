/** What a tokenizing library does for us: content ids without specials. */
export type ContentEncoder = {
  readonly vocabSize: number;
  tokenToId(token: string): number | undefined;
  encode(texts: readonly string[]): Promise<readonly ArrayLike<number>[]>;
};
