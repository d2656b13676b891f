// Kernels that are wrong on a GPU, each by one mistake, and those that are right beside them. After
// a name stands what the emulator says of it. Written as TVM writes kernels.

// ok: right
extern "C" __global__ void __launch_bounds__(64) a_barrier_between(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) float line[64];
  line[threadIdx.x] = out[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x ^ 1];
}

// which thread 0 wrote since the last barrier
extern "C" __global__ void __launch_bounds__(64) no_barrier_before_a_read(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) float line[64];
  line[threadIdx.x] = out[threadIdx.x];
  if (threadIdx.x % 2) out[threadIdx.x] = line[threadIdx.x - 1];
}

// which thread 0 read since the last barrier
extern "C" __global__ void __launch_bounds__(64) no_barrier_before_a_write(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) float line[64];
  line[threadIdx.x] = out[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < 32) out[threadIdx.x] = line[threadIdx.x + 32];
  if (threadIdx.x >= 32) line[threadIdx.x] = 1.0f;
}

// which thread 0 wrote since the last barrier
extern "C" __global__ void __launch_bounds__(64) a_shuffle_is_no_barrier(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) float line[64];
  line[threadIdx.x] = out[threadIdx.x];
  out[threadIdx.x] = __shfl_xor_sync(0xffffffff, out[threadIdx.x], 1, 32);
  out[threadIdx.x] = line[threadIdx.x & 62];
}

// where a copy of thread 0 is on its way
extern "C" __global__ void __launch_bounds__(64) no_wait_for_a_copy(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  ingot_copy_async16((&(line[threadIdx.x * 4])), (&(out[threadIdx.x * 4])));
  ingot_commit_copies();
  ingot_copy_async16((&(line[threadIdx.x * 4 + 256])), (&(out[threadIdx.x * 4])));
  ingot_commit_copies();
  ingot_wait_copies<1>();
  out[threadIdx.x * 4] = line[threadIdx.x * 4 + 256];
}

// ok: right
extern "C" __global__ void __launch_bounds__(64) a_copy_is_its_threads(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  ingot_copy_async16((&(line[threadIdx.x * 4])), (&(out[threadIdx.x * 4])));
  ingot_commit_copies();
  ingot_commit_copies();
  ingot_wait_copies<1>();
  out[threadIdx.x * 4] = line[threadIdx.x * 4];
}

// which thread 0 wrote since the last barrier
extern "C" __global__ void __launch_bounds__(64) no_barrier_after_a_copy(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  ingot_copy_async16((&(line[threadIdx.x * 4])), (&(out[threadIdx.x * 4])));
  ingot_commit_copies();
  __syncthreads();
  ingot_wait_copies<0>();
  out[threadIdx.x] = line[threadIdx.x];
}

// which thread 1 read since the last barrier
extern "C" __global__ void __launch_bounds__(64) a_copy_over_what_is_read(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  line[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x ^ 1];
  if (threadIdx.x >= 32) ingot_copy_async4((&(line[threadIdx.x - 32])), (&(counter[threadIdx.x])));
}

// writes shared memory where there is none
extern "C" __global__ void __launch_bounds__(64) beyond_shared_memory(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) float line[64];
  line[threadIdx.x] = 0.0f;
  if (threadIdx.x == 63) line[threadIdx.x + 1] = 0.0f;
}

// writes shared memory where there is none
extern "C" __global__ void __launch_bounds__(64) beyond_what_was_asked_for(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  line[threadIdx.x + 4096 / 4 - 63] = 0.0f;
}

// reads global memory where there is none
extern "C" __global__ void __launch_bounds__(64) beyond_a_tensor(float* __restrict__ out, uint* __restrict__ counter) {
  out[threadIdx.x] = out[threadIdx.x + 2048 / 4 - 63];
}

// that are not aligned
extern "C" __global__ void __launch_bounds__(64) misaligned(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  uint words[4];
  line[threadIdx.x * 4 + 2] = 0.0f;
  ingot_load_shared16((&(words[0])), (&(line[threadIdx.x * 4 + 2])));
  counter[threadIdx.x] = words[0];
}

// that are not aligned
extern "C" __global__ void __launch_bounds__(64) a_misaligned_store(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  ingot_clear_shared16((&(line[threadIdx.x * 4 + 1])));
}

// what is shared memory
extern "C" __global__ void __launch_bounds__(64) a_global_load_of_shared_memory(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  uint words[4];
  line[threadIdx.x] = 0.0f;
  ingot_load4((&(words[0])), (&(line[threadIdx.x])));
  counter[threadIdx.x] = words[0];
}

// it waits at the barrier of line
extern "C" __global__ void __launch_bounds__(64) two_barriers(float* __restrict__ out, uint* __restrict__ counter) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[threadIdx.x] = 1.0f;
  } else {
    __syncthreads();
  }
}

// some threads left before its barrier
extern "C" __global__ void __launch_bounds__(64) a_barrier_of_some(float* __restrict__ out, uint* __restrict__ counter) {
  if (threadIdx.x < 48) {
    __syncthreads();
    out[threadIdx.x] = 1.0f;
  }
}

// some threads left before its shuffle
extern "C" __global__ void __launch_bounds__(64) a_shuffle_of_some(float* __restrict__ out, uint* __restrict__ counter) {
  if (threadIdx.x < 48) out[threadIdx.x] = __shfl_xor_sync(0xffffffff, out[threadIdx.x], 1, 32);
}

// its shuffle has a partial mask
extern "C" __global__ void __launch_bounds__(64) a_partial_mask(float* __restrict__ out, uint* __restrict__ counter) {
  out[threadIdx.x] = __shfl_xor_sync(0xffff, out[threadIdx.x], 1, 32);
}

// but this launch has written there
extern "C" __global__ void __launch_bounds__(64) a_constant_that_is_written(float* __restrict__ out, uint* __restrict__ counter) {
  float four[4];
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = 1.0f;
  ingot_load_inputs((&(four[0])), (&(out[threadIdx.x * 4])));
  counter[threadIdx.x] = four[0];
}

// which was read as constant
extern "C" __global__ void __launch_bounds__(64) writes_a_constant(float* __restrict__ out, uint* __restrict__ counter) {
  float four[4];
  ingot_load_inputs((&(four[0])), (&(out[threadIdx.x * 4])));
  out[threadIdx.x * 4] = four[0];
}

// in the order they ran in wrote: nothing orders the two
extern "C" __global__ void __launch_bounds__(64) blocks_write_the_same(float* __restrict__ out, uint* __restrict__ counter) {
  out[threadIdx.x] = 1.0f;
}

// in the order they ran in read: nothing orders the two
extern "C" __global__ void __launch_bounds__(64) blocks_read_what_one_writes(float* __restrict__ out, uint* __restrict__ counter) {
  if (blockIdx.x == 3) out[threadIdx.x] = 1.0f;
  else counter[blockIdx.x * 64 + threadIdx.x] = out[threadIdx.x];
}

// ok: with fences
extern "C" __global__ void __launch_bounds__(64) the_last_block(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) int flag[1];
  out[blockIdx.x * 64 + threadIdx.x] = 1.0f;
  __syncthreads();
  if (threadIdx.x == 0) flag[0] = ingot_is_last((&(counter[0])), 4);
  __syncthreads();
  if (flag[0]) out[threadIdx.x] = out[threadIdx.x] + out[threadIdx.x + 64] + out[threadIdx.x + 192];
}

// ok: with fences
extern "C" __global__ void __launch_bounds__(64) the_last_block_of_a_tile(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) int flag[1];
  out[blockIdx.x * 64 + threadIdx.x] = 1.0f;
  __syncthreads();
  if (threadIdx.x == 0) flag[0] = ingot_is_last_of_tile(1, 4);
  __syncthreads();
  if (flag[0]) out[threadIdx.x] = out[threadIdx.x] + out[threadIdx.x + 64] + out[threadIdx.x + 192];
}

// in the order they ran in wrote: nothing orders the two
extern "C" __global__ void __launch_bounds__(64) no_barrier_before_a_counter(float* __restrict__ out, uint* __restrict__ counter) {
  __shared__ alignas(64) int flag[1];
  if (threadIdx.x == 0) flag[0] = ingot_is_last((&(counter[0])), 4);
  out[blockIdx.x * 64 + threadIdx.x] = 1.0f;
  __syncthreads();
  if (flag[0]) out[threadIdx.x] = out[threadIdx.x] + out[threadIdx.x + 64] + out[threadIdx.x + 192];
}

// ok: handed over
extern "C" __global__ void __launch_bounds__(64) tensor_cores_read(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// wrote without a fence for them
extern "C" __global__ void __launch_bounds__(64) no_fence_for_tensor_cores(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// wrote without a fence for them
extern "C" __global__ void __launch_bounds__(64) a_write_after_the_fence(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  line[threadIdx.x] = 1.0f;
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// wrote without a fence for them
extern "C" __global__ void __launch_bounds__(64) a_fence_after_the_barrier(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  __syncthreads();
  ingot_share_with_tensor_cores();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// begin without a fence for their registers
extern "C" __global__ void __launch_bounds__(64) no_fence_for_registers(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// ok: they are NaN
extern "C" __global__ void __launch_bounds__(64) sums_that_are_not_there(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  if (c[0] == c[0]) out[1 << 20] = 0.0f;
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
}

// was written before they were waited for
extern "C" __global__ void __launch_bounds__(64) a_write_under_tensor_cores(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  __syncthreads();
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_warpgroup_commit();
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}

// it leaves while its tensor cores multiply
extern "C" __global__ void __launch_bounds__(64) no_wait_for_tensor_cores(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
}

// it waits for products that it has not committed
extern "C" __global__ void __launch_bounds__(64) products_that_are_not_committed(float* __restrict__ out, uint* __restrict__ counter) {
  extern __shared__ __align__(64) float line[];
  float c[64];
  for (int i = 0; i < 64; ++i) c[i] = 0.0f;
  for (int i = 0; i < 16; ++i) line[i * 64 + threadIdx.x] = 0.0f;
  ingot_share_with_tensor_cores();
  __syncthreads();
  ingot_warpgroup_arrive_128((&(c[0])));
  ingot_warpgroup_multiply_f16_128((&(c[0])), 0, 0, 0, 0, (&(line[0])), 1);
  ingot_warpgroup_wait_128((&(c[0])));
  out[threadIdx.x] = c[0];
}
