// A kernel as it is launched.
#pragma once

struct Index { unsigned x, y, z; };

struct Kernel {
  const char *name;
  void (*body)(void **);
  bool waits;             // its threads for each other
  const unsigned *arrays; // bytes of each array in shared memory, 0 after the last
};

// The shape is the grid, the block, and the bytes of shared memory that the launch asks for.
void run_grid(const Kernel &kernel, void **arguments, const unsigned *shape);
void *shared_array(int number);
void *dynamic_shared();
