// Loads, stores and copies in the background, and numbers widened and narrowed.
//
// A copy lands when its thread waits for it. Until then what it writes to holds NaN, and no thread
// may read it; other threads than its own may not before the next barrier either.
#include <vector>

#include "emulator.h"
#include "intrinsics.h"
#include "numbers.h"

static void load(void *to, const void *from, size_t bytes, Use how, Space space) {
  use(from, bytes, how, space);
  memcpy(to, from, bytes);
}
void ingot_load_inputs(float *to, const void *from) {
  load(to, from, 16, Use::READ_CONSTANT, Space::GLOBAL);
}
void ingot_load8(unsigned *to, const void *from) {
  load(to, from, 8, Use::READ_CONSTANT, Space::GLOBAL);
}
void ingot_load4(unsigned *to, const void *from) {
  load(to, from, 4, Use::READ_CONSTANT, Space::GLOBAL);
}
void ingot_load_shared16(unsigned *to, const void *from) {
  load(to, from, 16, Use::READ, Space::SHARED);
}
void ingot_load_shared8(unsigned *to, const void *from) {
  load(to, from, 8, Use::READ, Space::SHARED);
}
void ingot_load_shared4(unsigned *to, const void *from) {
  load(to, from, 4, Use::READ, Space::SHARED);
}

void store_vector(void *to, const unsigned *from) {
  use(to, 16, Use::WRITE, Space::ANY);
  memcpy(to, from, 16);
}
void ingot_store_shared8(void *to, unsigned first, unsigned second) {
  const unsigned words[2] = {first, second};
  use(to, 8, Use::WRITE, Space::SHARED);
  memcpy(to, words, 8);
}

struct Copy { void *to; unsigned value[4]; int bytes; };
static std::vector<std::vector<Copy>> copies[MAX_THREADS]; // groups, of which the last is open

static void copy_in_background(void *shared, const void *from, int bytes) {
  Copy copy = {shared, {}, bytes};
  use(from, bytes, Use::READ, Space::GLOBAL);
  use(shared, bytes, Use::BEGIN_COPY, Space::SHARED);
  memcpy(copy.value, from, bytes);
  memset(shared, 0xff, bytes);
  auto &groups = copies[current];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back(copy);
}
void ingot_copy_async16(void *shared, const void *from) { copy_in_background(shared, from, 16); }
void ingot_copy_async8(void *shared, const void *from) { copy_in_background(shared, from, 8); }
void ingot_copy_async4(void *shared, const void *from) { copy_in_background(shared, from, 4); }
void ingot_commit_copies() {
  if (copies[current].empty()) copies[current].emplace_back();
  copies[current].emplace_back();
}
void wait_for_copies(unsigned pending) {
  auto &groups = copies[current];
  while (groups.size() > pending + 1) {
    for (const Copy &copy : groups.front()) {
      use(copy.to, copy.bytes, Use::END_COPY, Space::SHARED);
      memcpy(copy.to, copy.value, copy.bytes);
    }
    groups.erase(groups.begin());
  }
}
void end_copies() { copies[current].clear(); } // what is on its way then is for nobody

static const void *rows[MAX_THREADS];
void ingot_load_transposed(unsigned *to, const void *row) {
  use(row, 16, Use::READ, Space::SHARED);
  rows[current] = row;
  const int first = first_of_warp(), g = current % WARP / 4, t = current % 4;
  wait_for_warp("ldmatrix");
  for (int i = 0; i < 4; ++i) {
    const uint16_t *low = (const uint16_t *)rows[first + 8 * i + 2 * t];
    const uint16_t *high = (const uint16_t *)rows[first + 8 * i + 2 * t + 1];
    to[i] = low[g] | (unsigned)high[g] << 16;
  }
  wait_for_warp("ldmatrix");
}

unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = low | (uint64_t)high << 32;
  unsigned chosen = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned byte = bytes >> 8 * (selector >> 4 * i & 7) & 0xff;
    const bool is_sign = selector >> 4 * i & 8;
    chosen |= (is_sign ? byte >> 7 ? 0xff : 0 : byte) << 8 * i;
  }
  return chosen;
}

static float within_f16(float value) { return value > 65504 ? 65504 : value < -65504 ? -65504 : value; }
unsigned ingot_pair_f16(float low, float high) {
  return to_f16(within_f16(low)) | to_f16(within_f16(high)) << 16;
}
unsigned ingot_pair_bf16(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }
unsigned ingot_quad_e4m3(float first, float second, float third, float fourth) {
  return to_e4m3(first) | to_e4m3(second) << 8 | to_e4m3(third) << 16 | to_e4m3(fourth) << 24;
}
float ingot_f16_of(unsigned word, int high) { return of_f16(word >> (16 * high) & 0xffff); }

void ingot_widen_q4_above(unsigned *pairs, unsigned codes) {
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16(128 + (codes >> 4 * i & 15), 128 + (codes >> (4 * i + 16) & 15));
}
void ingot_widen_q4(unsigned *pairs, unsigned codes) {
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16((int)(codes >> 4 * i & 15) - 8, (int)(codes >> (4 * i + 16) & 15) - 8);
}
void ingot_widen_f8(unsigned *pairs, unsigned low, unsigned high) {
  uint8_t bytes[8];
  memcpy(bytes, &low, 4), memcpy(bytes + 4, &high, 4);
  for (int i = 0; i < 4; ++i)
    pairs[i] = ingot_pair_bf16(of_e4m3(bytes[2 * i]), of_e4m3(bytes[2 * i + 1]));
}
