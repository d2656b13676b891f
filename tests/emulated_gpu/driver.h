// What the two emulated libraries share.
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CAPTURE_UNSUPPORTED = 900, CAPTURE_IMPLICIT = 906, NO_BINARY_FOR_GPU = 209, INVALID_PTX = 218 };

// What was asked for since the process started; kernels of a graph count once, as the graph.
enum { LAUNCHES, GRAPH_LAUNCHES, COPIES_IN, COPIES_OUT, OTHER_COPIES, ALLOCATIONS, WAITS, NUM_COUNTS };
extern unsigned long emulated_gpu_counts[NUM_COUNTS];

// Pieces of work since the process started: put on a stream, and done.
extern unsigned long emulated_gpu_enqueued, emulated_gpu_done;

// memory.cc
void emulated_gpu_own(void *pointer, size_t size);
void emulated_gpu_disown(void *pointer);
// driver.c
int emulated_gpu_wait(void);
int emulated_gpu_wait_for(unsigned long place); // for so many pieces of work
int emulated_gpu_copy(void *to, const void *from, size_t size, void *stream);
int emulated_gpu_is_capturing(void);
int emulated_gpu_begin_capture(void *stream);
int emulated_gpu_end_capture(void *stream, void **captured);
int emulated_gpu_launch_graph(const void *graph, void *stream);
#ifdef __cplusplus
}
#endif
