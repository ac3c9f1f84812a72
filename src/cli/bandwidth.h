// What this machine's memory gives, measured: the limit that stands beside every speed.
#pragma once

namespace millrace {

// Bytes read a second by `n_threads` threads, each streaming over its part of a buffer larger than any cache,
// best of some passes. Takes about 0.3 s and 512 MiB.
double measure_read_bandwidth(int n_threads);

}  // namespace millrace
