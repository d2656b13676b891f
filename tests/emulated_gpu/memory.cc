// What each thread does to memory, checked where a GPU would go on with wrong numbers.
//
// g++ makes a call of every access in a kernel's source (-fsanitize=thread, without its library);
// device functions call `use` themselves. Of every two bytes it is known who wrote and read them
// last, and when. That finds accesses beyond an array, misaligned ones, races of threads and of
// blocks, and reads of what is still being copied.
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <sys/mman.h>
#include <vector>

#include "driver.h"
#include "emulator.h"

namespace {

constexpr size_t GRANULE = 2; // bytes
constexpr int MANY = MAX_THREADS;

struct Cell {
  uint32_t written, read;
  uint32_t read_before; // by another block
  unsigned writer : 10, reader : 11;
  unsigned is_copied : 1, is_added : 1, is_constant : 1;
  unsigned follows_handover : 1; // of its writer, at the same time
};

struct Memory {
  const char *start;
  size_t size;
  Cell *cells;
  bool has(const char *address) const { return address >= start && address < start + size; }
};

std::map<const char *, Memory> device_memory;
Memory *recent[4];

// Arrays lie apart by as much as they are aligned, so that behind one there is none. The launch's
// own is the last of them.
constexpr size_t ALIGNMENT = 64, MOST_SHARED = 232448, MOST_FIXED = 49152, MOST_ARRAYS = 64;
constexpr size_t ALL_SHARED = MOST_SHARED + MOST_ARRAYS * 2 * ALIGNMENT;
alignas(ALIGNMENT) char shared_memory[ALL_SHARED];
Cell shared_cells[ALL_SHARED / GRANULE];
std::vector<Memory> shared_arrays;
uint32_t last_handover[MAX_THREADS];

Memory *find_global(const char *address) {
  for (Memory *one : recent)
    if (one && one->has(address)) return one;
  const auto after = device_memory.upper_bound(address);
  if (after == device_memory.begin()) return nullptr;
  Memory &memory = std::prev(after)->second;
  if (!memory.has(address)) return nullptr;
  if (!memory.cells) {
    const size_t bytes = (memory.size / GRANULE + 1) * sizeof(Cell);
    memory.cells = (Cell *)mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory.cells == MAP_FAILED) fail("there is no memory to note accesses in");
  }
  static unsigned turn;
  return recent[turn++ % 4] = &memory;
}

Memory *find_shared(const char *address) {
  for (Memory &array : shared_arrays)
    if (array.has(address)) return &array;
  return nullptr;
}

const char *verb(Use how) {
  switch (how) {
    case Use::READ: return "reads";
    case Use::READ_CONSTANT: return "reads as constant";
    case Use::READ_TENSOR: return "has tensor cores read";
    case Use::ADD: return "adds to";
    case Use::BEGIN_COPY: return "begins to copy to";
    default: return "writes";
  }
}

// One use of some bytes by the current thread.
struct Access {
  const char *address;
  size_t size;
  Use how;
  bool is_shared;
  const Memory *memory;
  uint32_t start; // of the grid's accesses, or in shared memory of the block's

  [[noreturn]] void wrong(const char *text, long number = 0) const {
    char where[100], what[200];
    const int array = is_shared ? memory - shared_arrays.data() : 0;
    const size_t byte = address - memory->start;
    if (is_shared) snprintf(where, sizeof where, "array %d of shared memory", array);
    else snprintf(where, sizeof where, "global memory");
    snprintf(what, sizeof what, text, number);
    fail("it %s %zu bytes at byte %zu of %zu in %s, %s", verb(how), size, byte, memory->size, where,
         what);
  }

  [[noreturn]] void race(uint32_t time, int thread, bool is_write) const {
    if (time < block_start)
      wrong(is_write ? "which block number %ld in the order they ran in wrote: nothing orders the two"
                     : "which block number %ld in the order they ran in read: nothing orders the two",
            block_of(time));
    if (thread == MANY) wrong("which other threads read since the last barrier");
    wrong(is_write ? "which thread %ld wrote since the last barrier"
                   : "which thread %ld read since the last barrier", thread);
  }

  void read(Cell &cell) const {
    if (cell.written >= start) {
      if (!is_before_us(cell.written, cell.writer)) race(cell.written, cell.writer, true);
      if (how == Use::READ_CONSTANT) wrong("but this launch has written there");
      // The writer's fence must lie between the write and the barrier before this.
      const uint32_t handover = last_handover[cell.writer];
      if (how == Use::READ_TENSOR && (handover < cell.written + cell.follows_handover ||
                                      !is_before_us(handover, cell.writer)))
        wrong("which thread %ld wrote without a fence for them", cell.writer);
    }
    if (cell.read < start) cell.is_constant = 0;
    if (cell.read < block_start) cell.read_before = cell.read;
    if (cell.read != now) cell.reader = current;
    else if ((int)cell.reader != current) cell.reader = MANY;
    cell.read = now;
    cell.is_constant |= how == Use::READ_CONSTANT;
  }

  void write(Cell &cell) const {
    const bool are_added = how == Use::ADD && cell.is_added;
    if (cell.written >= start && !are_added && !is_before_us(cell.written, cell.writer))
      race(cell.written, cell.writer, true);
    if (cell.read >= start) {
      if (cell.is_constant) wrong("which was read as constant");
      if (!is_before_us(cell.read, cell.reader)) race(cell.read, cell.reader, false);
      if (cell.read_before >= start && !is_before_us(cell.read_before, MANY))
        race(cell.read_before, MANY, false);
    }
    note_write(cell);
    cell.is_added = how == Use::ADD, cell.is_copied = how == Use::BEGIN_COPY;
  }

  void note_write(Cell &cell) const {
    cell.written = now, cell.writer = current;
    cell.follows_handover = last_handover[current] == now;
  }

  void note(Cell &cell) const {
    if (how == Use::END_COPY) {
      note_write(cell), cell.is_copied = 0;
      return;
    }
    if (cell.is_copied && cell.written >= start)
      wrong("where a copy of thread %ld is on its way", cell.writer);
    const bool is_write = how == Use::WRITE || how == Use::ADD || how == Use::BEGIN_COPY;
    is_write ? write(cell) : read(cell);
  }
};

// The cells of some bytes that lie in one array.
template <typename Visit> void visit(const Memory &memory, const char *address, size_t size, Visit visit) {
  const size_t first = address - memory.start;
  for (size_t i = first / GRANULE; i <= (first + size - 1) / GRANULE; ++i) visit(memory.cells[i]);
}

} // namespace

void use(const void *pointer, size_t size, Use how, Space space) {
  const char *address = (const char *)pointer;
  const bool is_shared = address >= shared_memory && address < shared_memory + ALL_SHARED;
  const size_t alignment = size < 16 ? size & -size : 16;
  if ((uintptr_t)address % alignment) fail("it %s %zu bytes that are not aligned", verb(how), size);
  if (space != Space::ANY && is_shared != (space == Space::SHARED))
    fail("it %s what is%s shared memory", verb(how), is_shared ? "" : " no");
  const Memory *memory = is_shared ? find_shared(address) : find_global(address);
  if (!memory) fail("it %s %s memory where there is none", verb(how), is_shared ? "shared" : "global");
  const Access access = {address, size, how, is_shared, memory, is_shared ? block_start : grid_start};
  if (address + size > memory->start + memory->size) access.wrong("beyond its end");
  visit(*memory, address, size, [&](Cell &cell) { access.note(cell); });
}

bool was_written_since(const void *pointer, size_t size, uint32_t time) {
  bool is_written = false;
  const char *address = (const char *)pointer;
  visit(*find_shared(address), address, size,
        [&](const Cell &cell) { is_written |= cell.written > time || cell.is_copied; });
  return is_written;
}

void hand_to_tensor_cores() { last_handover[current] = now; }

void lay_out_shared_memory(const unsigned *sizes, unsigned dynamic_bytes) {
  size_t used = 0, offset = 0;
  shared_arrays.clear();
  const auto add = [&](size_t size) {
    shared_arrays.push_back({shared_memory + offset, size, shared_cells + offset / GRANULE});
    used += size;
    offset += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT;
  };
  for (; *sizes; ++sizes) add(*sizes);
  if (used > MOST_FIXED || shared_arrays.size() >= MOST_ARRAYS)
    fail("%zu bytes of fixed shared memory are too many", used);
  add(dynamic_bytes);
  if (used > MOST_SHARED) fail("%zu bytes of shared memory are too many", used);
}

// NaN, whatever it is read as.
void clear_shared_memory() {
  for (const Memory &array : shared_arrays) memset((char *)array.start, 0xff, array.size);
  memset(last_handover, 0, sizeof last_handover);
}

void *shared_array(int number) { return (char *)shared_arrays[number].start; }
void *dynamic_shared() { return (char *)shared_arrays.back().start; }

void emulated_gpu_own(void *pointer, size_t size) {
  device_memory[(const char *)pointer] = {(const char *)pointer, size, nullptr};
}

void emulated_gpu_disown(void *pointer) {
  const auto found = device_memory.find((const char *)pointer);
  if (found == device_memory.end()) return;
  const Memory &memory = found->second;
  if (memory.cells) munmap(memory.cells, (memory.size / GRANULE + 1) * sizeof(Cell));
  device_memory.erase(found);
  for (Memory *&one : recent) one = nullptr;
}

// --- what g++ calls for each access of a kernel's ---

static inline bool is_own(const void *address, const void *frame) {
  return (const char *)address >= (const char *)frame && (const char *)address < stack_end;
}
#define ACCESS(name, size, how)                                                                    \
  extern "C" void __tsan_##name(const void *address) {                                             \
    if (!is_own(address, __builtin_frame_address(0))) use(address, size, how, Space::ANY);         \
  }
#define ACCESSES(size)                                                                             \
  ACCESS(read##size, size, Use::READ)                                                              \
  ACCESS(write##size, size, Use::WRITE)                                                            \
  ACCESS(unaligned_read##size, size, Use::READ)                                                    \
  ACCESS(unaligned_write##size, size, Use::WRITE)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
extern "C" void __tsan_read_range(const void *address, unsigned long size) {
  if (!is_own(address, __builtin_frame_address(0))) use(address, size, Use::READ, Space::ANY);
}
extern "C" void __tsan_write_range(const void *address, unsigned long size) {
  if (!is_own(address, __builtin_frame_address(0))) use(address, size, Use::WRITE, Space::ANY);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
