// Numbers of 16 and 8 bits to float32 and back, rounded as a GPU does.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

inline float of_f16(unsigned bits) {
  const uint16_t narrow = bits;
  _Float16 value;
  memcpy(&value, &narrow, 2);
  return value;
}
inline unsigned to_f16(float value) {
  const _Float16 narrow = value;
  uint16_t bits;
  memcpy(&bits, &narrow, 2);
  return bits;
}

inline float of_bf16(unsigned bits) {
  float value;
  bits <<= 16;
  memcpy(&value, &bits, 4);
  return value;
}
inline unsigned to_bf16(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline float of_e4m3(unsigned bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude = exponent ? ldexpf(8 + mantissa, exponent - 10) : ldexpf(mantissa, -9);
  return (bits & 0x7f) == 0x7f ? NAN : bits & 0x80 ? -magnitude : magnitude;
}
inline unsigned to_e4m3(float value) {
  if (value != value) return 0x7f;
  const float magnitude = fabsf(value);
  unsigned nearest = 0x7e; // the largest takes all beyond
  for (int code = 0; code < 0x7e; ++code) {
    const float low = of_e4m3(code), high = of_e4m3(code + 1), middle = (low + high) / 2;
    if (magnitude < middle || (magnitude == middle && code % 2 == 0)) { nearest = code; break; }
  }
  return nearest | (std::signbit(value) ? 0x80 : 0);
}
