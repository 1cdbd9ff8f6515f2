/** ids [N], table [V,C] -> [N,C]: `table[id] * scale`, zeros for an id outside the table. */
export function embeddingReference(
  ids: ArrayLike<number>,
  table: ArrayLike<number>,
  columns: number,
  scale: number,
): Float64Array {
  return Float64Array.from({ length: ids.length * columns }, (_, i) => {
    const id = ids[Math.floor(i / columns)]!;
    return (table[id * columns + (i % columns)] ?? 0) * scale;
  });
}
