/// Where a parameter lies: its first element in the slab, its sizes, and its factors among all the slab's.
struct Owner {
  start: u32,
  size: u32,
  rows: u32,
  columns: u32,
  firstRow: u32,
  firstColumn: u32,
  firstBlock: u32,
  isMatrix: u32,
}
