// The device functions of compile/cuda/intrinsics.cuh that are written in assembly, and what CUDA
// itself has, for a CPU: the same names, the same numbers.
#pragma once
#include <stdint.h>

void wait_for_block(int line);
uint64_t exchange_with(int line, unsigned mask, uint64_t word, int distance);
void store_vector(void *to, const unsigned *from);
void wait_for_copies(unsigned pending);

void __threadfence();
unsigned atomicAdd(unsigned *sum, unsigned value);
unsigned long long atomicAdd(unsigned long long *sum, unsigned long long value);
unsigned __byte_perm(unsigned low, unsigned high, unsigned selector);

void ingot_load_inputs(float *to, const void *from);
void ingot_load8(unsigned *to, const void *from);
void ingot_load4(unsigned *to, const void *from);
void ingot_load_shared16(unsigned *to, const void *from);
void ingot_load_shared8(unsigned *to, const void *from);
void ingot_load_shared4(unsigned *to, const void *from);
void ingot_store_shared8(void *to, unsigned first, unsigned second);
void ingot_load_transposed(unsigned *to, const void *row);

void ingot_copy_async16(void *shared, const void *from);
void ingot_copy_async8(void *shared, const void *from);
void ingot_copy_async4(void *shared, const void *from);
void ingot_commit_copies();

unsigned ingot_pair_f16(float low, float high);
unsigned ingot_pair_bf16(float low, float high);
unsigned ingot_quad_e4m3(float first, float second, float third, float fourth);
float ingot_f16_of(unsigned word, int high);
void ingot_widen_q4_above(unsigned *pairs, unsigned codes);
void ingot_widen_q4(unsigned *pairs, unsigned codes);
void ingot_widen_f8(unsigned *pairs, unsigned low, unsigned high);

#define PRODUCT(name)                                                                              \
  void name(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
PRODUCT(ingot_mma_f16)
PRODUCT(ingot_mma_bf16)
PRODUCT(ingot_mma_e4m3)
#undef PRODUCT

void ingot_share_with_tensor_cores();
void ingot_hold(unsigned *words);
void ingot_warpgroup_commit();
void ingot_warpgroup_arrive_128(float *c);
void ingot_warpgroup_wait_128(float *c);
void ingot_warpgroup_arrive_256(float *c);
void ingot_warpgroup_wait_256(float *c);
#define PRODUCT(name)                                                                              \
  void name(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, const void *b, int adds);
PRODUCT(ingot_warpgroup_multiply_f16_128)
PRODUCT(ingot_warpgroup_multiply_bf16_128)
PRODUCT(ingot_warpgroup_multiply_e4m3_128)
PRODUCT(ingot_warpgroup_multiply_f16_256)
PRODUCT(ingot_warpgroup_multiply_bf16_256)
#undef PRODUCT

int ingot_is_last_of_tile(int tile, int blocks);
