// CUDA C++ as TVM writes it, compiled for the CPU: what a kernel's source finds instead of CUDA.
//
// Blocks run one after the other. The threads of a block are fibers of one system thread: each runs
// until it waits at a barrier or for the other lanes of its warp, and is taken up again when all of
// them are there. A barrier that only some threads reach stops the process with a message.
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>

struct Index { unsigned x, y, z; };
static Index blockIdx, threadIdx;

#define __global__
#define __device__
#define __launch_bounds__(n)
#define __shared__ static
#define __restrict__
#define alignas(n)
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
typedef _Float16 half;
struct uint4 { unsigned x, y, z, w; };

template <typename T> static inline T max(T a, T b) { return a > b ? a : b; }
template <typename T> static inline T min(T a, T b) { return a < b ? a : b; }
static inline float __uint_as_float(unsigned v) { float f; memcpy(&f, &v, 4); return f; }
#define CUDART_INF_F HUGE_VALF
#define CUDART_NAN_F NAN

enum State { READY, AT_BARRIER, AT_WARP, DONE };
constexpr int MAX_THREADS = 1024, WARP = 32;
constexpr size_t STACK = 1 << 16;

struct Fiber { jmp_buf point; Index index; State state; bool started; };
static Fiber fibers[MAX_THREADS];
static jmp_buf scheduler;
static char *stacks;
static int current, num_threads;
static uint64_t exchange[MAX_THREADS];
// What a launch asks for beside the arrays of fixed size; holds NaN when a block starts.
static char dynamic_shared[232448] __attribute__((aligned(64)));
static void (*body)(void **);
static void **body_arguments;

static void wait_as(State state) {
  fibers[current].state = state;
  if (_setjmp(fibers[current].point) == 0) _longjmp(scheduler, 1);
}

static void __syncthreads() { wait_as(AT_BARRIER); }

template <typename T> static T __shfl_xor_sync(unsigned mask, T value, int distance, int) {
  if (mask != 0xffffffffu) { fprintf(stderr, "emulated GPU: a partial mask\n"); abort(); }
  memcpy(&exchange[current], &value, sizeof value);
  int other = (current & ~(WARP - 1)) | ((current ^ distance) & (WARP - 1));
  wait_as(AT_WARP);
  memcpy(&value, &exchange[other], sizeof value);
  wait_as(AT_WARP);
  return value;
}

#include "intrinsics.h"

static void run_fiber() {
  copies[current].clear();
  products[current].clear();
  body(body_arguments);
  fibers[current].state = DONE;
  _longjmp(scheduler, 1);
}

static void resume(int thread) {
  current = thread;
  Fiber &fiber = fibers[thread];
  threadIdx = fiber.index;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.point, 1);
  fiber.started = true;
  static ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stacks + thread * STACK;
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, run_fiber, 0);
  setcontext(&context);
}

// Makes threads [first, last) ready if all of them wait so; a finished one waits for nothing.
static bool release(int first, int last, State state) {
  int waiting = 0, done = 0;
  for (int i = first; i < last; ++i) {
    waiting += fibers[i].state == state;
    done += fibers[i].state == DONE;
  }
  if (!waiting || waiting + done != last - first) return false;
  if (done) { fprintf(stderr, "emulated GPU: some threads left before a barrier\n"); abort(); }
  for (int i = first; i < last; ++i) fibers[i].state = READY;
  return true;
}

static void run_block_of_fibers() {
  for (int i = 0; i < num_threads; ++i) fibers[i].state = READY, fibers[i].started = false;
  for (;;) {
    bool moved = false, all_done = true;
    for (int i = 0; i < num_threads; ++i)
      if (fibers[i].state == READY) resume(i), moved = true;
    for (int i = 0; i < num_threads; i += WARP)
      moved |= release(i, min(i + WARP, num_threads), AT_WARP);
    moved |= release(0, num_threads, AT_BARRIER);
    for (int i = 0; i < num_threads; ++i) all_done &= fibers[i].state == DONE;
    if (all_done) return;
    if (!moved) { fprintf(stderr, "emulated GPU: threads wait for each other\n"); abort(); }
  }
}

static void run_grid(void (*kernel)(void **), void **arguments, bool waits, const unsigned *shape) {
  if (!stacks)
    stacks = (char *)mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  body = kernel, body_arguments = arguments, num_threads = 0;
  for (unsigned z = 0; z < shape[5]; ++z)
    for (unsigned y = 0; y < shape[4]; ++y)
      for (unsigned x = 0; x < shape[3]; ++x) fibers[num_threads++].index = {x, y, z};
  for (unsigned z = 0; z < shape[2]; ++z)
    for (unsigned y = 0; y < shape[1]; ++y)
      for (unsigned x = 0; x < shape[0]; ++x) {
        blockIdx = {x, y, z};
        memset(dynamic_shared, 0xff, shape[6]);
        if (waits) { run_block_of_fibers(); continue; }
        for (int i = 0; i < num_threads; ++i) threadIdx = fibers[i].index, kernel(arguments);
      }
}
