// What CUDA C++ gives a kernel, for kernels compiled as ordinary C++: each thread of a block is a fiber, and
// the blocks of a grid run one after another. A thread that waits where others of its warp or block do not is
// an error, as it is on a GPU; shared memory begins as NaN in every block.
//
// gpu/threads.h has the same names. Kernels use no others.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "backend/cuda/device.h"
#include "base/error.h"
#include "quant/half.h"

#define MILLRACE_CUDA_TARGET emulated
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define MILLRACE_UNROLL
#define MILLRACE_KEEP_LOOP

namespace millrace::cuda::emulated {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// Of the running thread. Blocks are lines of threads.
struct Place {
  int thread, n_threads;
  int64_t block[3], n_blocks;  // of the grid in its first dimension
};
extern thread_local Place place;
inline int thread_index() { return place.thread; }
inline int n_threads() { return place.n_threads; }
inline int64_t block_x() { return place.block[0]; }
inline int64_t n_blocks() { return place.n_blocks; }
inline int64_t block_y() { return place.block[1]; }
inline int64_t block_z() { return place.block[2]; }

// Wait for all threads of the block, and of the warp.
void sync_block(SourcePlace where = SourcePlace::current());
void sync_warp(SourcePlace where = SourcePlace::current());
// Before products and loads of matrices: all threads of a warp must come to these at once, and after branches
// that only some have taken nothing else makes them. No barrier for memory.
void converge_warp();
// Of the values of a warp, the same for each of its threads: pairs at a distance of 16, 8, 4, 2 and 1.
float warp_sum(float value);
float warp_max(float value);
// The same of four neighbours: 4 * g to 4 * g + 3.
float quad_sum(float value);
float quad_max(float value);
// d += a * b, of a warp: a (16, 16), b (16, 8), d (16, 8), a and b in bfloat16 and two to a word, the lower
// first. Lane 4 * g + t has of a the rows g and g + 8 (words 0, 2 and 1, 3), and of them the columns 2t, 2t +
// 1 (words 0, 1) and 2t + 8, 2t + 9 (words 2, 3); of b the same rows of column g; of d the columns 2t, 2t + 1
// of the rows g (0, 1) and g + 8 (2, 3). A GPU adds the 16 products of an element in an order of its own, the
// same for every element.
void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void multiply_add_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);  // a and b in float16

// The memory that the threads of a block share.
std::byte* shared_memory();
// Copies 16 bytes to it from the device's memory. They are there when the thread has waited: for all but the
// newest kNewest groups, each of the copies up to a commit_copies().
void copy16(std::byte* shared, const void* from);
void commit_copies();
void wait_for_copies(unsigned n_newest);
template <unsigned kNewest>
void wait_copies() {
  wait_for_copies(kNewest);
}
// Adds to a number that many threads add to; returns what it was.
int atomic_add(int* number, int value);

inline void require(bool ok) { check(ok, "what a kernel requires of its inputs"); }
inline float float_of_f16_bits(uint16_t bits) { return float_of_f16(bits); }
inline uint16_t f16_bits_of_float(float value) { return f16_of_float(value); }
// Rounded to bfloat16, `low` in the lower half.
inline uint32_t bf16_pair(float low, float high) {
  return static_cast<uint32_t>(bf16_of_float(low)) | static_cast<uint32_t>(bf16_of_float(high)) << 16;
}
inline uint32_t f16_pair(float low, float high) {
  return static_cast<uint32_t>(f16_of_float(low)) | static_cast<uint32_t>(f16_of_float(high)) << 16;
}

struct Bytes16 {
  uint32_t words[4];
};
inline Bytes16 load16(const void* from) {  // at a multiple of 16 bytes
  check(reinterpret_cast<uintptr_t>(from) % 16 == 0, "a load of 16 bytes at a multiple of 16");
  Bytes16 out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
inline void store16(void* to, const Bytes16& bytes) {
  check(reinterpret_cast<uintptr_t>(to) % 16 == 0, "a store of 16 bytes at a multiple of 16");
  std::memcpy(to, &bytes, sizeof bytes);
}
// Operands of products from shared memory, by a whole warp: four matrices (8, 8) of 16-bit numbers, each row
// 16 bytes, row_bytes after the one before. The first begins at `shared`, the others `second`, `third` and
// `second + third` bytes after it. Lane 4 * g + t gets of each the numbers 2t and 2t + 1 of its row g; or,
// transposed, of its column g.
Bytes16 load_matrices(const std::byte* shared, int row_bytes, int second, int third);
Bytes16 load_transposed(const std::byte* shared, int row_bytes, int second, int third);
template <class Word>
Word load(const void* from) {  // at a multiple of the size of the word
  check(reinterpret_cast<uintptr_t>(from) % sizeof(Word) == 0, "a load at a multiple of its size");
  Word out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

// In which order threads that could go on do so: right kernels give the same bits either way.
enum class Order { ascending, descending };

struct Launch {
  Grid grid;
  int n_threads;
  size_t shared_bytes;
  std::function<void()> thread;  // what each of them does
};
// Aborts where no GPU runs it. A device that measures is given nothing else.
void check_shape(const Launch& launch);
void give(Device& device, const Launch& launch);

// Runs `kernel` once for each thread of each block, with the arguments as they are now.
template <class Arguments>
void launch(Machine& machine, void (*kernel)(Arguments), const Grid& grid, int n_threads, size_t shared_bytes,
            const Arguments& arguments) {
  const Launch all{
      .grid = grid, .n_threads = n_threads, .shared_bytes = shared_bytes, .thread = [kernel, arguments] {
        kernel(arguments);
      }};
  check_shape(all);
  if (!machine.is_measuring()) give(machine.device, all);
}

}  // namespace millrace::cuda::emulated
