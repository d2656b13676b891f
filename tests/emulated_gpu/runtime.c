// libcudart.so.13 of a machine without a GPU: device memory is host memory. Streams, captures and
// what runs when are driver.c's.
#include "driver.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, MAX_PINNED = 4096, OUT_OF_MEMORY = 2, INVALID_HANDLE = 400 };

// EMULATED_GPU_DRIVER is the CUDA version of the driver, 0 for none.
int cudaDriverGetVersion(int *version) {
  const char *number = getenv("EMULATED_GPU_DRIVER");
  *version = number ? atoi(number) : 13000;
  return 0;
}
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaSetDevice(int device) { return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 1 ? 1024 : attribute == 10 ? 32 : attribute == 75 ? 9 : 0;
  return 0;
}
int cudaGetDeviceProperties(char *properties, int device) { strcpy(properties, "emulated"); return 0; }

// Memory is given filled with NaN: nothing may rely on zeros. Given and taken back it waits for all
// work, and can't be while a stream captures. EMULATED_GPU_BYTES are all that there are.
static size_t taken;
static int allocate(void **pointer, size_t size, int is_pinned) {
  int status = emulated_gpu_wait();
  if (status) return status;
  const char *bytes = getenv("EMULATED_GPU_BYTES");
  if (bytes && !is_pinned && taken + size > strtoull(bytes, NULL, 10)) return OUT_OF_MEMORY;
  ++emulated_gpu_counts[ALLOCATIONS];
  *pointer = aligned_alloc(512, (size + 512) / 512 * 512);
  memset(*pointer, 0xff, size);
  taken += is_pinned ? 0 : malloc_usable_size(*pointer);
  return 0;
}
static int release(void *pointer, int is_pinned) {
  int status = emulated_gpu_wait();
  if (status) return status;
  taken -= pointer && !is_pinned ? malloc_usable_size(pointer) : 0;
  free(pointer);
  return 0;
}
int cudaMalloc(void **pointer, size_t size) {
  int status = allocate(pointer, size, 0);
  if (!status) emulated_gpu_own(*pointer, size);
  return status;
}
int cudaFree(void *pointer) {
  int status = release(pointer, 0);
  if (!status) emulated_gpu_disown(pointer);
  return status;
}

static struct { const char *start; size_t size; } pinned[MAX_PINNED];
int cudaMallocHost(void **pointer, size_t size) {
  for (int i = 0; i < MAX_PINNED; ++i)
    if (!pinned[i].start) {
      int status = allocate(pointer, size, 1);
      pinned[i].start = *pointer, pinned[i].size = size;
      return status;
    }
  return OUT_OF_MEMORY;
}
int cudaFreeHost(void *pointer) {
  for (int i = 0; i < MAX_PINNED; ++i)
    if (pinned[i].start == pointer) pinned[i].start = NULL;
  return release(pointer, 1);
}
static int is_pinned(const char *pointer) {
  for (int i = 0; i < MAX_PINNED; ++i)
    if (pinned[i].start && pointer >= pinned[i].start && pointer < pinned[i].start + pinned[i].size)
      return 1;
  return 0;
}
int cudaMemGetInfo(size_t *available, size_t *total) {
  *available = 1UL << 30, *total = 2UL << 30;
  return 0;
}

// A copy of memory that isn't pinned is done when the call is.
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
  ++emulated_gpu_counts[kind == HOST_TO_DEVICE   ? COPIES_IN
                        : kind == DEVICE_TO_HOST ? COPIES_OUT
                                                 : OTHER_COPIES];
  const void *host = kind == HOST_TO_DEVICE ? from : to;
  int status = emulated_gpu_copy(to, from, size, stream);
  if (status || (kind != HOST_TO_DEVICE && kind != DEVICE_TO_HOST) || is_pinned(host)) return status;
  return emulated_gpu_wait();
}
// One copy, of rows that lie apart.
int cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width,
                      size_t height, int kind, void *stream) {
  if (kind != HOST_TO_DEVICE || !is_pinned(from) || width > to_pitch || width > from_pitch) return 1;
  ++emulated_gpu_counts[COPIES_IN];
  int status = 0;
  for (size_t row = 0; row < height && !status; ++row)
    status = emulated_gpu_copy(to + row * to_pitch, from + row * from_pitch, width, stream);
  return status;
}
int cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t size, void *stream) {
  return cudaMemcpyAsync(to, from, size, 3, stream);
}

static int wait(void) {
  ++emulated_gpu_counts[WAITS];
  return emulated_gpu_wait();
}
int cudaDeviceSynchronize(void) { return wait(); }
int cudaStreamSynchronize(void *stream) { return wait(); }
int cudaStreamCreate(void **stream) { *stream = malloc(1); return 0; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return cudaStreamCreate(stream); }
int cudaStreamDestroy(void *stream) { free(stream); return 0; }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
typedef struct { unsigned long place; int is_timed; } Event;
int cudaEventCreateWithFlags(Event **event, unsigned flags) {
  *event = calloc(1, sizeof **event);
  (*event)->is_timed = !(flags & 2);
  return 0;
}
int cudaEventCreate(Event **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventDestroy(Event *event) { free(event); return 0; }
// A millisecond for each kernel or copy between the two.
int cudaEventElapsedTime(float *time, const Event *a, const Event *b) {
  if (!a->is_timed || !b->is_timed) return INVALID_HANDLE;
  *time = b->place - a->place;
  return 0;
}
int cudaEventRecord(Event *event, void *stream) { event->place = emulated_gpu_enqueued; return 0; }
// What was put on a stream after the event goes on waiting. An event that was never recorded, or
// came to pass, is not waited for.
int cudaEventSynchronize(Event *event) {
  if (event->place <= emulated_gpu_done) return 0;
  ++emulated_gpu_counts[WAITS];
  return emulated_gpu_wait_for(event->place);
}

int cudaStreamBeginCapture(void *stream, int mode) { return emulated_gpu_begin_capture(stream); }
int cudaStreamEndCapture(void *stream, void **graph) { return emulated_gpu_end_capture(stream, graph); }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) {
  *executable = graph;
  return 0;
}
int cudaGraphLaunch(void *executable, void *stream) {
  ++emulated_gpu_counts[GRAPH_LAUNCHES];
  return emulated_gpu_launch_graph(executable, stream);
}
int cudaGraphDestroy(void *graph) { return 0; }
int cudaGraphExecDestroy(void *graph) { return 0; }

const char *cudaGetErrorName(int error) { return "EMULATED_GPU"; }
const char *cudaGetErrorString(int error) { return "emulated GPU"; }
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
