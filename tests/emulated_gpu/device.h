// What a kernel's source finds instead of CUDA. Definitions are in the .cc files beside this one,
// which are part of the emulated driver; those of intrinsics.cuh that are plain C++ are used as
// they are there.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "intrinsics.h"
#include "launch.h"

extern const Index blockIdx, threadIdx; // constant as one thread sees them

#define __global__ __attribute__((noinline))
#define __device__
#define __launch_bounds__(n)
#define __restrict__
#define alignas(n)
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
#define INGOT_DEVICE static
typedef _Float16 half;

// Stored as a whole, as a GPU does.
struct __attribute__((aligned(16))) uint4 {
  unsigned x, y, z, w;
  uint4 &operator=(const uint4 &other) { store_vector(this, &other.x); return *this; }
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

template <typename T> static inline T max(T a, T b) { return a > b ? a : b; }
template <typename T> static inline T min(T a, T b) { return a < b ? a : b; }
static inline float __uint_as_float(unsigned v) { float f; memcpy(&f, &v, 4); return f; }
#define CUDART_INF_F HUGE_VALF
#define CUDART_NAN_F NAN

// One line of the source is one barrier or shuffle: all threads must come to the same.
#define __syncthreads() wait_for_block(__LINE__)
#define __shfl_xor_sync(mask, value, distance, width) shuffle_xor(__LINE__, mask, value, distance)
template <typename T> static T shuffle_xor(int line, unsigned mask, T value, int distance) {
  uint64_t word = 0;
  memcpy(&word, &value, sizeof value);
  word = exchange_with(line, mask, word, distance);
  memcpy(&value, &word, sizeof value);
  return value;
}
template <int pending> static void ingot_wait_copies() { wait_for_copies(pending); }
