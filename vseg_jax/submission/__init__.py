"""Files that the benchmarks' servers take, written and checked."""
