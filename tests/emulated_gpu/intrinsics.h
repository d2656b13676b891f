// compile/cuda/intrinsics.cuh for a CPU: the same names, the same numbers.
//
// Matrix instructions exchange their operands between the lanes of a warp, as shuffles do. Copies in
// the background land when they are waited for, not before, so that a missing wait shows.
#include <vector>

struct Operands { unsigned a[4], b[2]; const void *row; };
static Operands operands[MAX_THREADS];

struct Copy { void *to; unsigned value[4]; int bytes; };
static std::vector<std::vector<Copy>> copies[MAX_THREADS];

static void ingot_load16(unsigned *to, const void *from) {
  if ((uintptr_t)from % 16) { fprintf(stderr, "emulated GPU: a misaligned load of 16 bytes\n"); abort(); }
  memcpy(to, from, 16);
}
static void ingot_load8(unsigned *to, const void *from) {
  if ((uintptr_t)from % 8) { fprintf(stderr, "emulated GPU: a misaligned load of 8 bytes\n"); abort(); }
  memcpy(to, from, 8);
}
static void ingot_load4(unsigned *to, const void *from) {
  if ((uintptr_t)from % 4) { fprintf(stderr, "emulated GPU: a misaligned load of 4 bytes\n"); abort(); }
  memcpy(to, from, 4);
}
static void ingot_load_inputs(float *to, const void *from) { ingot_load16((unsigned *)to, from); }
static void ingot_load_shared16(unsigned *to, const void *from) { ingot_load16(to, from); }
static void ingot_load_shared8(unsigned *to, const void *from) { ingot_load8(to, from); }
static void ingot_load_shared4(unsigned *to, const void *from) { ingot_load4(to, from); }

static void ingot_store_shared8(void *to, unsigned first, unsigned second) {
  if ((uintptr_t)to % 8) { fprintf(stderr, "emulated GPU: a misaligned store of 8 bytes\n"); abort(); }
  const unsigned words[2] = {first, second};
  memcpy(to, words, 8);
}
static void ingot_store_shared16(void *to, const unsigned *from) { memcpy(to, from, 16); }
static void ingot_clear_shared16(void *to) { memset(to, 0, 16); }

template <int bytes> static void copy_async(void *shared, const void *from) {
  Copy copy = {shared, {0, 0, 0, 0}, bytes};
  if ((uintptr_t)shared % bytes || (uintptr_t)from % bytes) {
    fprintf(stderr, "emulated GPU: a misaligned copy of %d bytes\n", bytes);
    abort();
  }
  memcpy(copy.value, from, bytes);
  auto &groups = copies[current];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back(copy);
}
#define ingot_copy_async16 copy_async<16>
#define ingot_copy_async8 copy_async<8>
#define ingot_copy_async4 copy_async<4>
static void ingot_commit_copies() {
  if (copies[current].empty()) copies[current].emplace_back();
  copies[current].emplace_back();
}
template <size_t pending> static void ingot_wait_copies() {
  auto &groups = copies[current]; // the last one is still open
  while (groups.size() > pending + 1) {
    for (const Copy &copy : groups.front()) memcpy(copy.to, copy.value, copy.bytes);
    groups.erase(groups.begin());
  }
}

static float of_f16(unsigned bits) {
  const uint16_t narrow = bits;
  _Float16 value;
  memcpy(&value, &narrow, 2);
  return value;
}
static float of_bf16(unsigned bits) { return __uint_as_float(bits << 16); }
static unsigned to_f16(float value) {
  const _Float16 narrow = value;
  uint16_t bits;
  memcpy(&bits, &narrow, 2);
  return bits;
}
static unsigned to_bf16(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
static float within_f16(float value) { return value > 65504 ? 65504 : value < -65504 ? -65504 : value; }
static unsigned ingot_pair_f16(float low, float high) {
  return to_f16(within_f16(low)) | to_f16(within_f16(high)) << 16;
}
static unsigned ingot_pair_bf16(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }
static float ingot_f16_of(unsigned word, int high) { return of_f16(word >> (16 * high) & 0xffff); }
static float ingot_bf16_of(unsigned word, int high) { return of_bf16(word >> (16 * high) & 0xffff); }

static void ingot_widen_q4(unsigned *pairs, unsigned codes) {
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16((int)(codes >> 4 * i & 15) - 8, (int)(codes >> (4 * i + 16) & 15) - 8);
}
static void ingot_widen_q4_above(unsigned *pairs, unsigned codes) {
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16(128 + (codes >> 4 * i & 15), 128 + (codes >> (4 * i + 16) & 15));
}
static void ingot_widen_q8(unsigned *pairs, unsigned low, unsigned high) {
  int8_t bytes[8];
  memcpy(bytes, &low, 4), memcpy(bytes + 4, &high, 4);
  for (int i = 0; i < 4; ++i) pairs[i] = ingot_pair_bf16(bytes[2 * i], bytes[2 * i + 1]);
}

static float of_e4m3(unsigned bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude = exponent ? ldexpf(8 + mantissa, exponent - 10) : ldexpf(mantissa, -9);
  return (bits & 0x7f) == 0x7f ? NAN : bits & 0x80 ? -magnitude : magnitude;
}
static void ingot_widen_f8(unsigned *pairs, unsigned low, unsigned high) {
  uint8_t bytes[8];
  memcpy(bytes, &low, 4), memcpy(bytes + 4, &high, 4);
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16(of_e4m3(bytes[2 * i]), of_e4m3(bytes[2 * i + 1]));
}

static unsigned to_e4m3(float value) {
  if (value != value) return 0x7f;
  const float magnitude = fabsf(value);
  unsigned nearest = 0x7e; // the largest takes all beyond
  for (int code = 0; code < 0x7e; ++code) {
    const float low = of_e4m3(code), high = of_e4m3(code + 1), middle = (low + high) / 2;
    if (magnitude < middle || (magnitude == middle && code % 2 == 0)) { nearest = code; break; }
  }
  return nearest | (std::signbit(value) ? 0x80 : 0);
}
static unsigned ingot_quad_e4m3(float first, float second, float third, float fourth) {
  return to_e4m3(first) | to_e4m3(second) << 8 | to_e4m3(third) << 16 | to_e4m3(fourth) << 24;
}

// A sum of products of 8-bit floats as Ada and Hopper are reported to make it: of each addend 13 bits
// behind the largest one's first are kept. Where a test asks for it; exact sums show more mistakes.
static bool has_short_sums() {
  static const bool is_set = getenv("EMULATED_GPU_SHORT_SUMS") != nullptr;
  return is_set;
}
static float add_shortly(const float *addends, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = max(largest, fabsf(addends[i]));
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
  const int first = current & ~(WARP - 1);
  float addends[count + 1];
  for (int k = 0; k < count; ++k) {
    const unsigned left = operands[first + row % 8 * 4 + k / in_word % 4]
                              .a[row / 8 + k / (4 * in_word) * 2] >> k % in_word * bits;
    addends[k] = widen(left & mask) * widen(right(k) & mask);
  }
  addends[count] = c;
  if (bits == 8 && has_short_sums()) return add_shortly(addends, count + 1);
  for (int k = 0; k < count; ++k) c += addends[k];
  return c;
}

template <float widen(unsigned), int bits>
static void multiply(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                     unsigned b1) {
  operands[current] = {{a0, a1, a2, a3}, {b0, b1}, nullptr};
  const int first = current & ~(WARP - 1), g = current % WARP / 4, t = current % 4;
  wait_as(AT_WARP);
  for (int i = 0; i < 4; ++i) {
    const int row = g + i / 2 * 8, column = 2 * t + i % 2;
    constexpr int in_word = 32 / bits;
    c[i] = sum_up<widen, bits>(c[i], row, [&](int k) {
      return operands[first + column * 4 + k / in_word % 4].b[k / (4 * in_word)] >> k % in_word * bits;
    });
  }
  wait_as(AT_WARP);
}
#define ingot_mma_f16 multiply<of_f16, 16>
#define ingot_mma_bf16 multiply<of_bf16, 16>
#define ingot_mma_e4m3 multiply<of_e4m3, 8>

// Sums of a warpgroup's instruction are there when they are waited for. Each warp has its own rows
// of A, so that no more than its lanes exchange anything; B is read where it lies.
struct Product { float *c; bool adds; float values[64]; };
static std::vector<Product> products[MAX_THREADS];

static void ingot_share_with_tensor_cores() {}
static void ingot_hold(unsigned *) {}
static void ingot_warpgroup_arrive(float *) {}
static void ingot_warpgroup_commit() {}
static void ingot_warpgroup_wait(float *) {
  for (const Product &one : products[current])
    for (int i = 0; i < 64; ++i) one.c[i] = (one.adds ? one.c[i] : 0) + one.values[i];
  products[current].clear();
}
template <float widen(unsigned), typename Number>
static void warpgroup_multiply(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                               const void *b, int adds) {
  operands[current] = {{a0, a1, a2, a3}, {0, 0}, nullptr};
  const int g = current % WARP / 4, t = current % 4;
  constexpr int in_vector = 16 / sizeof(Number);
  Product product = {c, adds != 0, {}};
  wait_as(AT_WARP);
  for (int i = 0; i < 64; ++i) {
    const int row = g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
    product.values[i] = sum_up<widen, 8 * sizeof(Number)>(0, row, [&](int k) {
      const char *right = (const char *)b + k / in_vector * 2048 + column / 8 * 128 + column % 8 * 16;
      return (unsigned)((const Number *)right)[k % in_vector];
    });
  }
  products[current].push_back(product);
  wait_as(AT_WARP);
}
#define ingot_warpgroup_multiply_f16 warpgroup_multiply<of_f16, uint16_t>
#define ingot_warpgroup_multiply_bf16 warpgroup_multiply<of_bf16, uint16_t>
#define ingot_warpgroup_multiply_e4m3 warpgroup_multiply<of_e4m3, uint8_t>

static void ingot_load_transposed(unsigned *to, const void *row) {
  operands[current].row = row;
  const int first = current & ~(WARP - 1), g = current % WARP / 4, t = current % 4;
  wait_as(AT_WARP);
  for (int i = 0; i < 4; ++i) {
    const uint16_t *low = (const uint16_t *)operands[first + 8 * i + 2 * t].row;
    const uint16_t *high = (const uint16_t *)operands[first + 8 * i + 2 * t + 1].row;
    to[i] = low[g] | (unsigned)high[g] << 16;
  }
  wait_as(AT_WARP);
}

static void ingot_add_shared(unsigned *sum, unsigned value) { *sum += value; }
static void ingot_add_int64(void *sum, int64_t value) { *(int64_t *)sum += value; }
static int ingot_is_last(unsigned *counter, int blocks) { return ++*counter == (unsigned)blocks; }

static unsigned arrived[1024];
static int ingot_is_last_of_tile(int tile, int blocks) {
  if (++arrived[tile] < (unsigned)blocks) return 0;
  arrived[tile] = 0;
  return 1;
}
