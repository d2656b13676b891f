// What happens before what. Time goes on with every barrier and every block: two threads of a block
// are ordered if a barrier lies between, two blocks if one of them has found at a counter what the
// other has left there, with fences on both sides.
#include <algorithm>
#include <map>
#include <vector>

#include "emulator.h"
#include "intrinsics.h"

uint32_t now, grid_start, block_start;

namespace {

// All that the thread did until then, and its block before the last barrier until then.
struct Moment { uint32_t time; int thread; };
using Moments = std::map<unsigned, Moment>; // of blocks

struct Known { Moment until, since; };

std::vector<uint32_t> block_starts;
std::map<const void *, Moments> counters;
std::map<unsigned, Known> known; // of other blocks, to threads of this one
Moments found[MAX_THREADS];      // at counters since the last fence
uint32_t last_fence[MAX_THREADS];

void meet_at(const void *counter) {
  Moments &left = counters[counter];
  for (const auto &[block, moment] : left) found[current][block] = moment;
  if (last_fence[current]) left[block_of(now)] = {last_fence[current], current};
}

} // namespace

void begin_grid() {
  grid_start = ++now;
  block_starts.clear();
  counters.clear();
}

void begin_block() {
  block_starts.push_back(block_start = ++now);
  known.clear();
  for (int i = 0; i < MAX_THREADS; ++i) found[i].clear(), last_fence[i] = 0;
}

unsigned block_of(uint32_t time) {
  return std::upper_bound(block_starts.begin(), block_starts.end(), time) - block_starts.begin() - 1;
}

bool is_before_us(uint32_t time, int thread) {
  if (time >= block_start) return time < now || thread == current;
  const auto other = known.find(block_of(time));
  if (other == known.end()) return false;
  const auto &[until, since] = other->second;
  return (time < until.time || (time == until.time && thread == until.thread)) &&
         (since.time < now || since.thread == current);
}

void __threadfence() {
  last_fence[current] = now;
  for (const auto &[block, moment] : found[current]) known[block] = {moment, {now, current}};
  found[current].clear();
}

template <typename T> static T add(T *sum, T value) {
  use(sum, sizeof(T), Use::ADD, Space::ANY);
  meet_at(sum);
  const T before = *sum;
  *sum += value;
  return before;
}
unsigned atomicAdd(unsigned *sum, unsigned value) { return add(sum, value); }
unsigned long long atomicAdd(unsigned long long *sum, unsigned long long value) {
  return add(sum, value);
}

int ingot_is_last_of_tile(int tile, int blocks) {
  static unsigned arrived[1024];
  __threadfence();
  meet_at(&arrived[tile]);
  __threadfence();
  if (++arrived[tile] < (unsigned)blocks) return 0;
  arrived[tile] = 0;
  return 1;
}
