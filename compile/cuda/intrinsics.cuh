// What TIR can't say: wide loads, copies in the background, matrix instructions, and small integers
// widened in registers. Stands before the kernels that call it; tests/emulated_gpu/intrinsics.h
// says the same for a CPU.
//
// Fragments are those of mma.sync.m16n8k16. Lane l is (g, t) = (l / 4, l % 4) and holds of
//   A[16 rows][16 k]:  a0 = A[g][2t, 2t+1]  a1 = A[g+8][2t, 2t+1]  a2 = A[g][2t+8, 2t+9]  a3 = A[g+8][2t+8, 2t+9]
//   B[16 k][8 columns]: b0 = B[2t, 2t+1][g]  b1 = B[2t+8, 2t+9][g]
//   C[16 rows][8 columns]: c0, c1 = C[g][2t, 2t+1]  c2, c3 = C[g+8][2t, 2t+1]

#define INGOT_DEVICE static __device__ __forceinline__

// Four inputs that other blocks read as well.
INGOT_DEVICE void ingot_load_inputs(float *to, const void *from) {
  asm volatile("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
               : "l"(__cvta_generic_to_global(from)));
}

INGOT_DEVICE void ingot_load8(unsigned *to, const void *from) {
  asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1]) : "l"(__cvta_generic_to_global(from)));
}

INGOT_DEVICE void ingot_load4(unsigned *to, const void *from) {
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(to[0]) : "l"(__cvta_generic_to_global(from)));
}

// Whole: NVVM splits such a load where it sees it, not always alike, and the PTX must be the same.
INGOT_DEVICE void ingot_load_shared16(unsigned *to, const void *from) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(from)) : "memory");
}

INGOT_DEVICE void ingot_load_shared8(unsigned *to, const void *from) {
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1]) : "r"((unsigned)__cvta_generic_to_shared(from)) : "memory");
}

INGOT_DEVICE void ingot_load_shared4(unsigned *to, const void *from) {
  asm volatile("ld.shared.u32 %0, [%1];"
               : "=r"(to[0]) : "r"((unsigned)__cvta_generic_to_shared(from)) : "memory");
}

INGOT_DEVICE void ingot_store_shared8(void *to, unsigned first, unsigned second) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};"
               :: "r"((unsigned)__cvta_generic_to_shared(to)), "r"(first), "r"(second) : "memory");
}

INGOT_DEVICE void ingot_store_shared16(void *to, const unsigned *from) {
  *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
}

INGOT_DEVICE void ingot_clear_shared16(void *to) { *(uint4 *)to = make_uint4(0, 0, 0, 0); }

// 16 bytes from global to shared memory while the thread goes on; those pass by the first-level cache.
INGOT_DEVICE void ingot_copy_async16(void *shared, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :: "r"((unsigned)__cvta_generic_to_shared(shared)),
                  "l"(__cvta_generic_to_global(from)) : "memory");
}

#define INGOT_COPY_ASYNC(bytes)                                                                    \
  INGOT_DEVICE void ingot_copy_async##bytes(void *shared, const void *from) {                      \
    asm volatile("cp.async.ca.shared.global [%0], [%1], " #bytes ";"                               \
                 :: "r"((unsigned)__cvta_generic_to_shared(shared)),                               \
                    "l"(__cvta_generic_to_global(from)) : "memory");                               \
  }
INGOT_COPY_ASYNC(4)
INGOT_COPY_ASYNC(8)

INGOT_DEVICE void ingot_commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last `pending` groups of this thread's copies are there.
template <int pending> INGOT_DEVICE void ingot_wait_copies() {
  asm volatile("cp.async.wait_group %0;" :: "n"(pending) : "memory");
}

// Two float32 rounded to nearest even into one word, the first in its low half. What float16 can't
// hold becomes its largest number: an infinity times a weight of zero would be not-a-number.
INGOT_DEVICE unsigned ingot_pair_f16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

INGOT_DEVICE unsigned ingot_pair_bf16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Four float32 rounded to the nearest e4m3 into one word, the first in its lowest byte.
INGOT_DEVICE unsigned ingot_quad_e4m3(float first, float second, float third, float fourth) {
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(second), "f"(first));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(fourth), "f"(third));
  return low | (unsigned)high << 16;
}

// One 16-bit number of a word as float32: its low half, or its high half.
INGOT_DEVICE float ingot_f16_of(unsigned word, int high) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)(word >> (16 * high))));
  return value;
}

INGOT_DEVICE float ingot_bf16_of(unsigned word, int high) {
  return __uint_as_float(high ? word & 0xffff0000u : word << 16);
}

// Eight 4-bit codes (inputs 0 2 4 6 1 3 5 7 from the lowest) to four pairs of bfloat16, plus 128.
INGOT_DEVICE void ingot_widen_q4_above(unsigned *pairs, unsigned codes) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // 0x4300 is 128 in bfloat16, whose last place is then 1: 128 + code, exactly. One instruction
    // masks and adds; ptxas takes two where C++ says it.
    asm("lop3.b32 %0, %1, %2, %3, 0xea;"
        : "=r"(pairs[i]) : "r"(codes >> (4 * i)), "r"(0x000f000fu), "r"(0x43004300u));
  }
}

// The same, minus 8.
INGOT_DEVICE void ingot_widen_q4(unsigned *pairs, unsigned codes) {
  unsigned above[4];
  ingot_widen_q4_above(above, codes);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"  // above * 1 - 136
        : "=r"(pairs[i]) : "r"(above[i]), "r"(0x3f803f80u), "r"(0xc308c308u));
}

// Eight signed bytes, in order, to four pairs of bfloat16.
INGOT_DEVICE void ingot_widen_q8(unsigned *pairs, unsigned low, unsigned high) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned bytes = (i < 2 ? low : high) ^ 0x80808080u;
    // 0x4b000000 is 2^23 in float32, whose last place is then 1: 2^23 + 128 + byte, exactly.
    const unsigned first = __byte_perm(bytes, 0x4b000000u, i % 2 ? 0x7652 : 0x7650);
    const unsigned second = __byte_perm(bytes, 0x4b000000u, i % 2 ? 0x7653 : 0x7651);
    pairs[i] = ingot_pair_bf16(__uint_as_float(first) - 8388736.0f,
                               __uint_as_float(second) - 8388736.0f);
  }
}

// Eight e4m3 numbers, in order, to four pairs of bfloat16.
INGOT_DEVICE void ingot_widen_f8(unsigned *pairs, unsigned low, unsigned high) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned bytes = __byte_perm(i < 2 ? low : high, 0, i % 2 ? 0x3424 : 0x1404);
    // Exponent and mantissa where bfloat16 has them: too small by the difference of the biases.
    const unsigned small = (bytes & 0x80008000u) | ((bytes & 0x7f007f00u) >> 4);
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"  // small * 2^120 - 0
        : "=r"(pairs[i]) : "r"(small), "r"(0x7b807b80u), "r"(0x80008000u));
  }
}

// C += A B in float32.
INGOT_DEVICE void ingot_mma_f16(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

INGOT_DEVICE void ingot_mma_bf16(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// By 32 k: A[g][4t..4t+3], A[g+8][4t..], A[g][4t+16..], A[g+8][4t+16..]; B[4t..][g], B[4t+16..][g].
INGOT_DEVICE void ingot_mma_e4m3(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                 unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Four 8x8 matrices of 16-bit values, transposed: lane 8i + r points to row r of matrix i.
INGOT_DEVICE void ingot_load_transposed(unsigned *to, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

// Sums that threads of a block, or of all blocks, add to in any order.
INGOT_DEVICE void ingot_add_shared(unsigned *sum, unsigned value) { atomicAdd(sum, value); }

INGOT_DEVICE void ingot_add_int64(void *sum, long long value) {
  atomicAdd((unsigned long long *)sum, (unsigned long long)value);
}

// Whether this is the last of `blocks` blocks to come here; then it sees what the others wrote.
// One thread of a block calls it, between two barriers.
INGOT_DEVICE int ingot_is_last(unsigned *counter, int blocks) {
  __threadfence();
  const bool is_last = atomicAdd(counter, 1u) == (unsigned)blocks - 1;
  __threadfence();
  return is_last;
}

// The same for a tile of a matmul, whose counter is the kernels' own and is zero again afterwards.
static __device__ unsigned ingot_arrived[1024];

INGOT_DEVICE int ingot_is_last_of_tile(int tile, int blocks) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"  // wraps behind the last block's
               : "=r"(before)
               : "l"(__cvta_generic_to_global(&ingot_arrived[tile])), "r"((unsigned)blocks - 1)
               : "memory");
  return before == (unsigned)blocks - 1;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// wgmma.m64nRk16, of 8-bit floats k32: a warpgroup's 64 rows of A, in registers as those of mma.sync,
// by R columns of B in shared memory; c0..c3 of every 8 columns as those of mma.sync. It runs while
// the threads go on.
#define INGOT_SUMS_64(c) INGOT_16(c, 0), INGOT_16(c, 16), INGOT_16(c, 32), INGOT_16(c, 48)
#define INGOT_SUMS_128(c) INGOT_SUMS_64(c), INGOT_16(c, 64), INGOT_16(c, 80), INGOT_16(c, 96), INGOT_16(c, 112)
#define INGOT_16(c, i) INGOT_4(c, i), INGOT_4(c, i + 4), INGOT_4(c, i + 8), INGOT_4(c, i + 12)
#define INGOT_4(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define INGOT_NAMES_64                                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define INGOT_NAMES_128 INGOT_NAMES_64 ", "                                                        \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// What was copied to shared memory is for tensor cores to read, after the next barrier.
INGOT_DEVICE void ingot_share_with_tensor_cores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The words are computed when this is passed, and the sums by whoever names them.
INGOT_DEVICE void ingot_hold(unsigned *words) {
  asm volatile("" : "+r"(words[0]), "+r"(words[1]), "+r"(words[2]), "+r"(words[3]) :: "memory");
}

// Closes what was begun, before any branch: else the compiler closes a group of its own.
INGOT_DEVICE void ingot_warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// `arrive` comes before what reads and writes the sums; `wait` ends it, and only then they are there.
#define INGOT_WARPGROUP(columns, sums)                                                             \
  INGOT_DEVICE void ingot_warpgroup_arrive_##columns(float *c) {                                   \
    asm volatile("wgmma.fence.sync.aligned;" : INGOT_SUMS_##sums(c) :: "memory");                  \
  }                                                                                                \
  INGOT_DEVICE void ingot_warpgroup_wait_##columns(float *c) {                                     \
    asm volatile("wgmma.wait_group.sync.aligned 0;" : INGOT_SUMS_##sums(c) :: "memory");           \
  }
INGOT_WARPGROUP(128, 64)
INGOT_WARPGROUP(256, 128)

// Begins C = A B, or C += A B. Of B, 8 columns by 16 bytes lie together, the next 8 columns come
// after them, the next 16 bytes of each column after all columns. Only 16-bit numbers can be told to
// be transposed: `more` tells that they are not. Operands are named behind the sums.
#define INGOT_WARPGROUP_MULTIPLY(type, k, more, columns, sums, a0_, a1_, a2_, a3_, b_, adds_)      \
  INGOT_DEVICE void ingot_warpgroup_multiply_##type##_##columns(                                   \
      float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, const void *b, int adds) {     \
    const unsigned long long start = (unsigned)__cvta_generic_to_shared(b) >> 4;                   \
    const unsigned long long layout = (columns * 16ull >> 4) << 16 | (128ull >> 4) << 32;          \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " adds_ ", 0;\n"                                \
                 "wgmma.mma_async.sync.aligned.m64n" #columns #k ".f32." #type "." #type " {"      \
                 INGOT_NAMES_##sums "}, {" a0_ ", " a1_ ", " a2_ ", " a3_ "}, " b_                 \
                 ", p, 1, 1" more ";\n}"                                                           \
                 : INGOT_SUMS_##sums(c)                                                            \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(start | layout), "r"(adds));            \
  }
#define INGOT_BY_128(type, k, more)                                                                \
  INGOT_WARPGROUP_MULTIPLY(type, k, more, 128, 64, "%64", "%65", "%66", "%67", "%68", "%69")
#define INGOT_BY_256(type, k, more)                                                                \
  INGOT_WARPGROUP_MULTIPLY(type, k, more, 256, 128, "%128", "%129", "%130", "%131", "%132", "%133")
INGOT_BY_128(f16, k16, ", 0")
INGOT_BY_128(bf16, k16, ", 0")
INGOT_BY_128(e4m3, k32, "")
INGOT_BY_256(f16, k16, ", 0")
INGOT_BY_256(bf16, k16, ", 0")
#endif
