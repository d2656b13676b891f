// What the parts of the emulated GPU share.
#pragma once
#include <cstddef>
#include <cstdint>

constexpr int MAX_THREADS = 1024, WARP = 32;

// --- grid.cc: who runs ---
extern int current;     // the number of the thread in its block
extern char *stack_end; // of its own variables
inline int first_of_warp() { return current & ~(WARP - 1); }
// Goes on when all lanes of the warp are at the same instruction.
void wait_for_warp(const char *instruction, int line = 0);
// Ends the process, and says which kernel, block, thread and line were wrong in what.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));


// --- intrinsics.cc and products.cc: what a thread leaves behind ---
void end_copies();
void end_products();

// --- memory.cc: what threads do to memory ---
enum class Use {
  READ,
  READ_CONSTANT, // past what the grid itself writes
  READ_TENSOR,   // by a matrix instruction, which sees what was handed over to it
  WRITE,
  ADD,           // atomically
  BEGIN_COPY,    // in the background
  END_COPY,
};
enum class Space { ANY, SHARED, GLOBAL };
// Notes that the thread uses these bytes, and fails where a GPU might do anything.
void use(const void *address, size_t size, Use how, Space space);
// Whether any of these bytes in shared memory was written since, or is on its way.
bool was_written_since(const void *address, size_t size, uint32_t time);
void hand_to_tensor_cores();
void lay_out_shared_memory(const unsigned *arrays, unsigned dynamic_bytes);
void clear_shared_memory();

// --- order.cc: what happens before what ---
extern uint32_t now; // counts the barriers of all blocks; each has times of its own
extern uint32_t grid_start, block_start;
void begin_grid();
void begin_block();
inline void pass_barrier() { ++now; }
// Whether what a thread did then is seen by the current one.
bool is_before_us(uint32_t time, int thread);
unsigned block_of(uint32_t time); // in the order in which they run
