// Shared by the kernels of attention from last rows. No barriers: software drivers take minutes to compile them, and one
// block of a model is little work.

/** Which sample a row is of; last tokens ascend. */
fn sample_of(row: u32) -> u32 {
  var low = 0u;
  var high = params.samples - 1;
  while (low < high) {
    let middle = (low + high) / 2;
    if (last_tokens[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** The first row that the row `last` sees. */
fn first_seen(last: u32) -> u32 {
  return max(segments[last].x, last - min(last, params.window - 1));
}
