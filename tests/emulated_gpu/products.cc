// Matrix instructions. Lanes of a warp exchange their operands, as in a shuffle.
//
// Those of a warpgroup run in the background: their sums are NaN until they are waited for, and what
// they read in shared memory must be there, handed over, when they begin, and stay until they end.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "emulator.h"
#include "intrinsics.h"
#include "numbers.h"

struct Operands { unsigned a[4], b[2]; };
static Operands operands[MAX_THREADS];

// A sum of products of 8-bit floats as Ada and Hopper are reported to make it: of each addend 13 bits
// behind the largest one's first are kept. Where a test asks for it; exact sums show more mistakes.
static bool has_short_sums() {
  static const bool is_set = getenv("EMULATED_GPU_SHORT_SUMS") != nullptr;
  return is_set;
}
static float add_shortly(const float *addends, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = std::max(largest, fabsf(addends[i]));
  if (!(largest > 0) || std::isinf(largest)) return largest == 0 ? 0 : NAN;
  const float last_place = ldexpf(1, ilogbf(largest) - 13);
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += truncf(addends[i] / last_place);
  return sum * last_place;
}

// The sum of one row of A by one column of B, and of what it is added to.
template <float widen(unsigned), int bits, typename Right>
static float sum_up(float c, int row, Right right) {
  constexpr int count = 256 / bits, in_word = 32 / bits;
  constexpr unsigned mask = (1u << bits) - 1;
  float addends[count + 1];
  for (int k = 0; k < count; ++k) {
    const unsigned left = operands[first_of_warp() + row % 8 * 4 + k / in_word % 4]
                              .a[row / 8 + k / (4 * in_word) * 2] >> k % in_word * bits;
    addends[k] = widen(left & mask) * widen(right(k) & mask);
  }
  addends[count] = c;
  if (bits == 8 && has_short_sums()) return add_shortly(addends, count + 1);
  for (int k = 0; k < count; ++k) c += addends[k];
  return c;
}

template <float widen(unsigned), int bits>
static void multiply(const char *name, float *c, const Operands &own) {
  operands[current] = own;
  const int first = first_of_warp(), g = current % WARP / 4, t = current % 4;
  wait_for_warp(name);
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    constexpr int in_word = 32 / bits;
    c[i] = sum_up<widen, bits>(c[i], row, [&](int k) {
      return operands[first + column * 4 + k / in_word % 4].b[k / (4 * in_word)] >> k % in_word * bits;
    });
  }
  wait_for_warp(name);
}
#define PRODUCT(type, bits)                                                                        \
  void ingot_mma_##type(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, \
                        unsigned b1) {                                                             \
    multiply<of_##type, bits>("mma." #type, c, {{a0, a1, a2, a3}, {b0, b1}});                      \
  }
PRODUCT(f16, 16)
PRODUCT(bf16, 16)
PRODUCT(e4m3, 8)
#undef PRODUCT

// Each warp of a warpgroup has its own rows of A, so that no more than its lanes exchange anything;
// B is read where it lies.
struct Product {
  bool adds;
  const void *b;
  uint32_t begun;
  std::vector<float> values;
};
struct Pending {
  float *c = nullptr; // in registers
  std::vector<float> before;
  bool may_begin = false;
  size_t closed = 0; // of the products
  std::vector<Product> products;
};
static Pending pending[MAX_THREADS];
constexpr size_t B_COLUMN_BYTES = 32;

void ingot_share_with_tensor_cores() { hand_to_tensor_cores(); }
void ingot_hold(unsigned *) {}
void ingot_warpgroup_arrive_128(float *) { pending[current].may_begin = true; }
void ingot_warpgroup_arrive_256(float *) { pending[current].may_begin = true; }

void ingot_warpgroup_commit() { pending[current].closed = pending[current].products.size(); }

static void wait_for_products(float *c, size_t sums) {
  Pending &mine = pending[current];
  mine.may_begin = false;
  if (mine.closed < mine.products.size()) fail("it waits for products that it has not committed");
  if (mine.products.empty()) return;
  if (c != mine.c || sums != mine.before.size())
    fail("it waits for other sums than those it has begun");
  std::copy(mine.before.begin(), mine.before.end(), c);
  for (const Product &one : mine.products) {
    if (current % WARP == 0 && was_written_since(one.b, sums * 2 * B_COLUMN_BYTES, one.begun))
      fail("what its tensor cores read was written before they were waited for");
    for (size_t i = 0; i < sums; ++i) c[i] = (one.adds ? c[i] : 0) + one.values[i];
  }
  mine.products.clear(), mine.closed = 0;
}
void ingot_warpgroup_wait_128(float *c) { wait_for_products(c, 64); }
void ingot_warpgroup_wait_256(float *c) { wait_for_products(c, 128); }

void end_products() {
  if (!pending[current].products.empty()) fail("it leaves while its tensor cores multiply");
}

template <float widen(unsigned), typename Number, int columns>
static void begin_product(const char *name, float *c, const Operands &own, const void *b, int adds) {
  Pending &mine = pending[current];
  if (!mine.may_begin) fail("its tensor cores begin without a fence for their registers");
  if (mine.products.empty()) {
    mine.c = c;
    mine.before.assign(c, c + columns / 2);
    std::fill(c, c + columns / 2, NAN);
  } else if (c != mine.c || mine.before.size() != columns / 2) {
    fail("it begins other sums than those it has begun");
  }
  if (current % WARP == 0) use(b, columns * B_COLUMN_BYTES, Use::READ_TENSOR, Space::SHARED);
  operands[current] = own;
  const int g = current % WARP / 4, t = current % 4;
  constexpr int in_vector = 16 / sizeof(Number);
  Product product = {adds != 0, b, now, {}};
  wait_for_warp(name);
  for (int i = 0; i < columns / 2; ++i) {
    const int row = g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
    const char *right = (const char *)b + column / 8 * 128 + column % 8 * 16;
    product.values.push_back(sum_up<widen, 8 * sizeof(Number)>(0, row, [&](int k) {
      return (unsigned)((const Number *)(right + k / in_vector * columns * 16))[k % in_vector];
    }));
  }
  mine.products.push_back(product);
  wait_for_warp(name);
}
#define PRODUCT(type, number, columns)                                                             \
  void ingot_warpgroup_multiply_##type##_##columns(float *c, unsigned a0, unsigned a1,             \
                                                   unsigned a2, unsigned a3, const void *b,        \
                                                   int adds) {                                     \
    begin_product<of_##type, number, columns>("wgmma." #type, c, {{a0, a1, a2, a3}, {}}, b, adds); \
  }
PRODUCT(f16, uint16_t, 128)
PRODUCT(bf16, uint16_t, 128)
PRODUCT(e4m3, uint8_t, 128)
PRODUCT(f16, uint16_t, 256)
PRODUCT(bf16, uint16_t, 256)
