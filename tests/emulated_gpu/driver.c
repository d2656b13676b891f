// libcuda.so.1 of a machine without a GPU: as much as TVM's runtime and Ingot ask of it.
//
// A "cubin" is the path of a shared library that emulator.py made; launching a kernel runs it there
// and then. EMULATED_GPU_LOG names a file that gets a line for each launch.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void *stream, *attributes;
  unsigned num_attributes;
} Launch;

typedef struct { void (*run)(void **, const unsigned *); char name[256]; } Function;

int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  const char *capability = getenv("EMULATED_GPU_CAPABILITY");
  int number = capability ? atoi(capability) : 90;
  *value = attribute == 75 ? number / 10 : attribute == 76 ? number % 10 : 0;
  return 0;
}
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "emulated"); return 0; }
int cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
int cuGetErrorName(int error, const char **text) { *text = "EMULATED_GPU"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "emulated GPU"; return 0; }
int cuTensorMapEncodeTiled(void) { return 1; }

int cuModuleLoadData(void **module, const void *image) {
  *module = dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "emulated GPU: %s\n", dlerror());
  return *module ? 0 : 209; // no binary for this GPU
}
int cuModuleUnload(void *module) { return 0; }

int cuModuleGetFunction(void **function, void *module, const char *name) {
  char symbol[300];
  snprintf(symbol, sizeof symbol, "launch_%s", name);
  Function *found = malloc(sizeof *found);
  found->run = (void (*)(void **, const unsigned *))dlsym(module, symbol);
  snprintf(found->name, sizeof found->name, "%s", name);
  *function = found;
  return found->run ? 0 : 500; // not found
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
  for (int i = 0; i < 6; ++i)
    if (!shape[i]) return 1; // invalid value
  if (shape[1] > 65535 || shape[2] > 65535 || shape[3] * shape[4] * shape[5] > 1024) return 1;
  if (shape[6] > 232448) return 1;
  function->run(arguments, shape);
  return 0;
}
