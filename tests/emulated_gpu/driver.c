// libcuda.so.1 of a machine without a GPU: as much as TVM's runtime and Ingot ask of it.
//
// A "cubin" is the path of a shared library that emulator.py made. What is put on a stream waits in
// one queue, in order, and runs when it is waited for: a missing wait shows. While a stream
// captures, its work goes into a graph instead, and what a GPU refuses then is refused.
// EMULATED_GPU_LOG names a file that gets a line for each launch.
#include "driver.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void *stream, *attributes;
  unsigned num_attributes;
} Launch;

typedef struct {
  void (*run)(void **, const unsigned *);
  const unsigned *sizes; // of the arguments, 0 after the last
  unsigned most_shared_bytes;
  char name[256];
} Function;

enum { MAX_ARGUMENTS = 64 };
typedef struct Work {
  Function *function; // NULL for a copy
  unsigned shape[7];
  unsigned long long values[MAX_ARGUMENTS];
  void *to;
  const void *from;
  size_t size;
  struct Work *next;
} Work;
typedef struct { Work *first, *last; } Queue;

static Queue queue;
static Queue *graph; // what is captured now
static void *capturing;
unsigned long emulated_gpu_counts[NUM_COUNTS], emulated_gpu_enqueued, emulated_gpu_done;

static void append(Queue *to, Work *work) {
  *(to->last ? &to->last->next : &to->first) = work;
  to->last = work;
}

// Only the capturing stream may get work then. A GPU would let others have it, and run it at once
// and never again.
static int enqueue(void *stream, Work *work) {
  if (graph && stream != capturing) return CAPTURE_IMPLICIT;
  append(graph ? graph : &queue, work);
  emulated_gpu_enqueued += !graph;
  return 0;
}

int emulated_gpu_wait(void) { return emulated_gpu_wait_for(emulated_gpu_enqueued); }
int emulated_gpu_wait_for(unsigned long place) {
  if (graph) return CAPTURE_UNSUPPORTED;
  while (emulated_gpu_done < place) {
    Work *work = queue.first;
    queue.first = work->next;
    if (!queue.first) queue.last = NULL;
    if (work->function) {
      void *arguments[MAX_ARGUMENTS];
      for (int i = 0; i < MAX_ARGUMENTS; ++i) arguments[i] = &work->values[i];
      work->function->run(arguments, work->shape);
    } else {
      memmove(work->to, work->from, work->size);
    }
    free(work);
    ++emulated_gpu_done;
  }
  return 0;
}

int emulated_gpu_copy(void *to, const void *from, size_t size, void *stream) {
  Work *work = calloc(1, sizeof *work);
  work->to = to, work->from = from, work->size = size;
  return enqueue(stream, work);
}

int emulated_gpu_is_capturing(void) { return graph != NULL; }

int emulated_gpu_begin_capture(void *stream) {
  if (!stream || graph) return CAPTURE_UNSUPPORTED; // the default stream can't be captured
  graph = calloc(1, sizeof *graph), capturing = stream;
  return 0;
}

int emulated_gpu_end_capture(void *stream, void **captured) {
  if (!graph || stream != capturing) return CAPTURE_UNSUPPORTED;
  *captured = graph;
  graph = capturing = NULL;
  return 0;
}

int emulated_gpu_launch_graph(const void *launched, void *stream) {
  for (const Work *work = ((const Queue *)launched)->first; work; work = work->next) {
    Work *copy = malloc(sizeof *copy);
    *copy = *work, copy->next = NULL;
    int status = enqueue(stream, copy);
    if (status) return status;
  }
  return 0;
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
static int capability(void) {
  const char *number = getenv("EMULATED_GPU_CAPABILITY");
  return number ? atoi(number) : 90;
}
static int shared_bytes_of_block(void) {
  int number = capability(), is_small = number == 86 || number == 89 || number == 120;
  return is_small ? 101376 : number == 80 ? 166912 : 232448;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75   ? capability() / 10
           : attribute == 76 ? capability() % 10
           : attribute == 97 ? shared_bytes_of_block()
                             : 0;
  return 0;
}
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "emulated"); return 0; }
// More shared memory than a GPU gives to every launch has to be asked for before.
int cuFuncSetAttribute(Function *function, int attribute, int value) {
  if (attribute != 8 || value > shared_bytes_of_block()) return 1;
  function->most_shared_bytes = value;
  return 0;
}
int cuGetErrorName(int error, const char **text) { *text = "EMULATED_GPU"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "emulated GPU"; return 0; }
int cuTensorMapEncodeTiled(void) { return 1; }

// Kernels call the rest of the emulator, which is in this library.
static void *load(const void *image) {
  dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
  return dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
}

int cuModuleLoadData(void **module, const void *image) {
  *module = load(image);
  if (!*module) fprintf(stderr, "emulated GPU: %s\n", dlerror());
  return *module ? 0 : NO_BINARY_FOR_GPU;
}
// Options 5 and 6 are a buffer for what the driver's compiler has to say, and its size.
int cuModuleLoadDataEx(void **module, const void *image, unsigned count, const int *options,
                       void **values) {
  *module = load(image);
  if (*module) return 0;
  for (unsigned i = 0; i + 1 < count; ++i)
    if (options[i] == 5 && options[i + 1] == 6)
      snprintf(values[i], (size_t)values[i + 1], "ptxas: %s", dlerror());
  return INVALID_PTX;
}
int cuModuleUnload(void *module) { return 0; }

int cuModuleGetFunction(void **function, void *module, const char *name) {
  char symbol[300];
  Function *found = malloc(sizeof *found);
  snprintf(symbol, sizeof symbol, "launch_%s", name);
  found->run = (void (*)(void **, const unsigned *))dlsym(module, symbol);
  snprintf(symbol, sizeof symbol, "sizes_%s", name);
  found->sizes = dlsym(module, symbol);
  snprintf(found->name, sizeof found->name, "%s", name);
  found->most_shared_bytes = 49152;
  *function = found;
  return found->run && found->sizes ? 0 : 500; // not found
}

int cuLaunchKernelEx(const Launch *launch, Function *function, void **arguments, void **extra) {
  const unsigned shape[7] = {launch->grid_x,  launch->grid_y,  launch->grid_z,     launch->block_x,
                             launch->block_y, launch->block_z, launch->shared_bytes};
  const char *log = getenv("EMULATED_GPU_LOG");
  if (log) {
    FILE *file = fopen(log, "a");
    fprintf(file, "%s %u %u %u %u\n", function->name, shape[0], shape[1], shape[2], shape[3]);
    fclose(file);
  }
  emulated_gpu_counts[LAUNCHES] += !graph;
  for (int i = 0; i < 6; ++i)
    if (!shape[i]) return 1; // invalid value
  if (shape[1] > 65535 || shape[2] > 65535 || shape[3] * shape[4] * shape[5] > 1024) return 1;
  if (shape[6] > function->most_shared_bytes) return 1;
  Work *work = calloc(1, sizeof *work);
  work->function = function;
  memcpy(work->shape, shape, sizeof shape);
  for (int i = 0; function->sizes[i]; ++i) {
    if (i == MAX_ARGUMENTS) abort();
    memcpy(&work->values[i], arguments[i], function->sizes[i]);
  }
  return enqueue(launch->stream, work);
}
