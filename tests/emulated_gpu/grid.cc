// The threads of a launch, as fibers of one system thread.
//
// Blocks run one after the other, and of a block one thread until it waits at a barrier or for the
// other lanes of its warp. EMULATED_GPU_ORDER is the order in which blocks run, and threads between
// two barriers: "forward", "backward", or a number for one of the others.
#include <algorithm>
#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#include "emulator.h"
#include "intrinsics.h"
#include "launch.h"

Index blockIdx, threadIdx;
int current;
char *stack_end;

namespace {

enum State { READY, AT_BARRIER, AT_WARP, DONE };
constexpr size_t STACK = 1 << 16;

struct Fiber {
  jmp_buf point;
  Index index;
  State state;
  bool started;
  const char *instruction; // which it waits at, and its line in the source
  int line;
};
Fiber fibers[MAX_THREADS];
jmp_buf scheduler;
char *stacks;
int num_threads;
uint64_t exchanged[MAX_THREADS];
const Kernel *kernel;
void **kernel_arguments;

void wait_as(State state, const char *instruction, int line) {
  Fiber &fiber = fibers[current];
  fiber.state = state, fiber.instruction = instruction, fiber.line = line;
  if (_setjmp(fiber.point) == 0) _longjmp(scheduler, 1);
}

void run_fiber() {
  kernel->body(kernel_arguments);
  end_copies();
  end_products();
  fibers[current].state = DONE;
  _longjmp(scheduler, 1);
}

void resume(int thread) {
  Fiber &fiber = fibers[thread];
  current = thread, threadIdx = fiber.index, stack_end = stacks + (thread + 1) * STACK;
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
bool release(int first, int last, State state) {
  int waiting = 0, done = 0, one = first;
  for (int i = first; i < last; ++i) {
    if (fibers[i].state == state) ++waiting, one = i;
    done += fibers[i].state == DONE;
  }
  if (!waiting || waiting + done != last - first) return false;
  current = one;
  const Fiber &fiber = fibers[one];
  if (done) fail("some threads left before its %s", fiber.instruction);
  for (int i = first; i < last; ++i) {
    if (fibers[i].line != fiber.line || strcmp(fibers[i].instruction, fiber.instruction))
      fail("it waits at the %s of line %d, thread %d at the %s of line %d", fiber.instruction,
           fiber.line, i, fibers[i].instruction, fibers[i].line);
    fibers[i].state = READY;
  }
  return true;
}

void run_block_of_fibers(const std::vector<int> &order) {
  for (int i = 0; i < num_threads; ++i) fibers[i].state = READY, fibers[i].started = false;
  for (;;) {
    bool moved = false, all_done = true;
    for (int i : order)
      if (fibers[i].state == READY) resume(i), moved = true;
    for (int i = 0; i < num_threads; i += WARP)
      moved |= release(i, std::min(i + WARP, num_threads), AT_WARP);
    if (release(0, num_threads, AT_BARRIER)) moved = true, pass_barrier();
    for (int i = 0; i < num_threads; ++i) all_done &= fibers[i].state == DONE;
    if (all_done) return;
    if (!moved) fail("threads wait for each other");
  }
}

std::vector<int> order_of(int count) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  const char *wanted = getenv("EMULATED_GPU_ORDER");
  if (!wanted || !strcmp(wanted, "forward")) return order;
  if (!strcmp(wanted, "backward")) std::reverse(order.begin(), order.end());
  else std::shuffle(order.begin(), order.end(), std::mt19937(atoi(wanted)));
  return order;
}

// Where in the kernel's source the current thread is, as far as the machine knows.
void print_line() {
  void *frames[16];
  Dl_info here, info;
  dladdr((void *)print_line, &here);
  const int depth = backtrace(frames, 16);
  for (int i = 0; i < depth; ++i) {
    if (!dladdr(frames[i], &info) || info.dli_fbase == here.dli_fbase) continue;
    char command[1000];
    snprintf(command, sizeof command,
             "addr2line -e '%s' %#lx 1>&2", info.dli_fname,
             (unsigned long)((char *)frames[i] - (char *)info.dli_fbase) - 1);
    fflush(stderr);
    if (system(command)) fprintf(stderr, "%s\n", info.dli_fname);
    return;
  }
}

} // namespace

void fail(const char *format, ...) {
  fprintf(stderr, "emulated GPU: kernel %s, block (%u, %u, %u), thread %d: ", kernel->name, blockIdx.x,
          blockIdx.y, blockIdx.z, current);
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fprintf(stderr, ", in ");
  print_line();
  abort();
}

void wait_for_block(int line) { wait_as(AT_BARRIER, "barrier", line); }
void wait_for_warp(const char *instruction, int line) { wait_as(AT_WARP, instruction, line); }

uint64_t exchange_with(int line, unsigned mask, uint64_t word, int distance) {
  if (mask != 0xffffffffu) fail("its shuffle has a partial mask");
  exchanged[current] = word;
  const int other = first_of_warp() | ((current ^ distance) & (WARP - 1));
  wait_for_warp("shuffle", line);
  word = exchanged[other];
  wait_for_warp("shuffle", line);
  return word;
}

void run_grid(const Kernel &launched, void **arguments, const unsigned *shape) {
  if (!stacks)
    stacks = (char *)mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  kernel = &launched, kernel_arguments = arguments, num_threads = 0;
  for (unsigned z = 0; z < shape[5]; ++z)
    for (unsigned y = 0; y < shape[4]; ++y)
      for (unsigned x = 0; x < shape[3]; ++x) fibers[num_threads++].index = {x, y, z};
  lay_out_shared_memory(kernel->arrays, shape[6]);
  const std::vector<int> threads = order_of(num_threads);
  begin_grid();
  for (unsigned i : order_of(shape[0] * shape[1] * shape[2])) {
    blockIdx = {i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]};
    begin_block();
    clear_shared_memory();
    if (kernel->waits) {
      run_block_of_fibers(threads);
      continue;
    }
    stack_end = (char *)__builtin_frame_address(0);
    for (int thread : threads) {
      current = thread, threadIdx = fibers[thread].index;
      kernel->body(arguments);
    }
  }
}
