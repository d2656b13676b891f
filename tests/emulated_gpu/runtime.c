// libcudart.so.13 of a machine without a GPU: device memory is host memory, nothing is asynchronous.
#include <stdlib.h>
#include <string.h>

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaSetDevice(int device) { return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 1 ? 1024 : attribute == 10 ? 32 : attribute == 75 ? 9 : 0;
  return 0;
}
int cudaGetDeviceProperties(char *properties, int device) { strcpy(properties, "emulated"); return 0; }
// Memory is given filled with NaN: nothing may rely on zeros.
int cudaMalloc(void **pointer, size_t size) {
  *pointer = aligned_alloc(512, (size + 512) / 512 * 512);
  memset(*pointer, 0xff, size);
  return 0;
}
int cudaFree(void *pointer) { free(pointer); return 0; }
int cudaMallocHost(void **pointer, size_t size) { return cudaMalloc(pointer, size); }
int cudaFreeHost(void *pointer) { free(pointer); return 0; }
int cudaMemGetInfo(size_t *available, size_t *total) {
  *available = 1UL << 30, *total = 2UL << 30;
  return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
  memmove(to, from, size);
  return 0;
}
int cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t size, void *stream) {
  memmove(to, from, size);
  return 0;
}
int cudaEventCreate(void **event) { *event = 0; return 0; }
int cudaEventDestroy(void *event) { return 0; }
int cudaEventElapsedTime(float *time, void *a, void *b) { *time = 1; return 0; }
int cudaEventRecord(void *event, void *stream) { return 0; }
int cudaEventSynchronize(void *event) { return 0; }
const char *cudaGetErrorName(int error) { return "EMULATED_GPU"; }
const char *cudaGetErrorString(int error) { return "emulated GPU"; }
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
int cudaGraphDestroy(void *graph) { return 0; }
int cudaGraphExecDestroy(void *graph) { return 0; }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) { return 1; }
int cudaGraphLaunch(void *executable, void *stream) { return 1; }
int cudaStreamBeginCapture(void *stream, int mode) { return 1; }
int cudaStreamEndCapture(void *stream, void **graph) { return 1; }
int cudaStreamCreate(void **stream) { *stream = 0; return 0; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { *stream = 0; return 0; }
int cudaStreamDestroy(void *stream) { return 0; }
int cudaDeviceSynchronize(void) { return 0; }
int cudaStreamSynchronize(void *stream) { return 0; }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
