// AMX's instructions as Intel's manual describes them, one state a thread.
#include <stdint.h>
#include <string.h>

typedef struct { uint8_t bytes[16][64]; int rows, row_bytes; } Tile;

static __thread Tile tiles[8];
static __thread int configured;
int faults;      // what a CPU would refuse
int multiplied;  // products of tiles
int held;        // threads that have not released their tiles

static void fault(void) { __atomic_add_fetch(&faults, 1, __ATOMIC_SEQ_CST); }

static void clear_above(Tile *tile, int rows) {
  memset(tile->bytes[rows], 0, sizeof(tile->bytes[0]) * (16 - rows));
}

int emulated_ldtilecfg(const uint8_t *config) {
  if (config[0] != 1 || config[1] != 0) fault();
  for (int i = 2; i < 16; i++) if (config[i]) fault();
  for (int tile = 0; tile < 8; tile++) {
    int row_bytes = config[16 + 2 * tile] | config[17 + 2 * tile] << 8, rows = config[48 + tile];
    if (row_bytes > 64 || rows > 16 || !row_bytes != !rows || config[32 + 2 * tile]) fault();
    memset(&tiles[tile], 0, sizeof(Tile));
    tiles[tile].rows = rows;
    tiles[tile].row_bytes = row_bytes;
  }
  if (!configured) __atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
  configured = 1;
  return 0;
}

int emulated_tilerelease(void) {
  if (configured) __atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
  configured = 0;
  memset(tiles, 0, sizeof(tiles));
  return 0;
}

static Tile *use(int8_t number) {
  if (!configured || !tiles[number].rows) fault();
  return &tiles[number];
}

int emulated_tilezero(int8_t number) {
  Tile *tile = use(number);
  memset(tile->bytes, 0, sizeof(tile->bytes));
  return 0;
}

int emulated_tileloadd64(int8_t number, const uint8_t *memory, int64_t stride) {
  Tile *tile = use(number);
  memset(tile->bytes, 0, sizeof(tile->bytes));
  for (int row = 0; row < tile->rows; row++)
    memcpy(tile->bytes[row], memory + row * stride, tile->row_bytes);
  return 0;
}

int emulated_tilestored64(int8_t number, uint8_t *memory, int64_t stride) {
  Tile *tile = use(number);
  for (int row = 0; row < tile->rows; row++)
    memcpy(memory + row * stride, tile->bytes[row], tile->row_bytes);
  return 0;
}

static int fit(const Tile *c, const Tile *a, const Tile *b) {
  __atomic_add_fetch(&multiplied, 1, __ATOMIC_SEQ_CST);
  int yes = c != a && c != b && a != b && c->rows == a->rows && c->row_bytes == b->row_bytes &&
            a->row_bytes == 4 * b->rows;
  if (!yes) fault();
  return yes;
}

int emulated_tdpbssd(int8_t total, int8_t first, int8_t second) {
  Tile *c = use(total), *a = use(first), *b = use(second);
  if (!fit(c, a, b)) return 0;
  for (int m = 0; m < a->rows; m++)
    for (int n = 0; n < b->row_bytes / 4; n++) {
      int32_t sum;
      memcpy(&sum, &c->bytes[m][4 * n], 4);
      for (int k = 0; k < b->rows; k++)
        for (int i = 0; i < 4; i++)
          sum += (int8_t)a->bytes[m][4 * k + i] * (int8_t)b->bytes[k][4 * n + i];
      memcpy(&c->bytes[m][4 * n], &sum, 4);
    }
  clear_above(c, a->rows);
  return 0;
}

static float bfloat16(const uint8_t *bytes) {  // denormals count as zero
  uint32_t bits = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24;
  if (!(bits & 0x7F800000)) bits &= 0x80000000;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

int emulated_tdpbf16ps(int8_t total, int8_t first, int8_t second) {
  Tile *c = use(total), *a = use(first), *b = use(second);
  if (!fit(c, a, b)) return 0;
  for (int m = 0; m < a->rows; m++)
    for (int n = 0; n < b->row_bytes / 4; n++) {
      float sums[2] = {0, 0}, sum;
      for (int k = 0; k < b->rows; k++)
        for (int i = 0; i < 2; i++)
          sums[i] = __builtin_fmaf(bfloat16(&a->bytes[m][4 * k + 2 * i]),
                                   bfloat16(&b->bytes[k][4 * n + 2 * i]), sums[i]);
      memcpy(&sum, &c->bytes[m][4 * n], 4);
      sum += sums[0] + sums[1];
      memcpy(&c->bytes[m][4 * n], &sum, 4);
    }
  clear_above(c, a->rows);
  return 0;
}
