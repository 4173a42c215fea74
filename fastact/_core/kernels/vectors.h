/* Operations that compilers do not generate from a plain loop: float16 conversions, which
   require special instructions, stores that bypass the cache, and transposition.

   Conversions and stores process whole vectors and return the number of elements or bytes
   processed. This is 0 if the instruction is not available. The caller processes the rest in
   a plain loop. */

#ifndef FASTACT_VECTORS_H
#define FASTACT_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#define FASTACT_STREAMS 1
#else
#define FASTACT_STREAMS 0
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ------------------------------------------------------------- float16 and float

   The results are bitwise identical to those of from_half and to_half, except that loading
   already makes a signaling NaN quiet. */

static inline ptrdiff_t fastact_load_halves(const uint16_t *half, float *out, ptrdiff_t n)
{
    ptrdiff_t i = 0;
#if defined(__F16C__) && defined(__AVX512F__)
    for (; n - i >= 16; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (half + i))));
#elif defined(__F16C__)
    for (; n - i >= 8; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (half + i))));
#elif defined(__aarch64__)
    for (; n - i >= 4; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half + i))));
#else
    (void) half, (void) out, (void) n;
#endif
    return i;
}

static inline ptrdiff_t fastact_store_halves(const float *x, uint16_t *half, ptrdiff_t n)
{
    ptrdiff_t i = 0;
#if defined(__F16C__) && defined(__AVX512F__)
    for (; n - i >= 16; i += 16)
        _mm256_storeu_si256((__m256i *) (half + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), 0));
#elif defined(__F16C__)
    for (; n - i >= 8; i += 8)
        _mm_storeu_si128((__m128i *) (half + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), 0));
#elif defined(__aarch64__)
    for (; n - i >= 4; i += 4)
        vst1_u16(half + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
#else
    (void) x, (void) half, (void) n;
#endif
    return i;
}

/* --------------------------------------------------------------------- streaming

   Copies n bytes, bypassing the cache. Both addresses must be multiples of 64. The caller must
   execute a fence afterwards. */

#if FASTACT_STREAMS
#define fastact_fence _mm_sfence
#else
#define fastact_fence() ((void) 0)
#endif

static inline ptrdiff_t fastact_stream(const char *x, char *out, ptrdiff_t n)
{
    ptrdiff_t i = 0;
#if defined(__AVX512F__)
    for (; n - i >= 64; i += 64)
        _mm512_stream_si512((__m512i *) (out + i), _mm512_load_si512((const __m512i *) (x + i)));
#elif defined(__AVX2__)
    for (; n - i >= 32; i += 32)
        _mm256_stream_si256((__m256i *) (out + i), _mm256_load_si256((const __m256i *) (x + i)));
#elif FASTACT_STREAMS
    for (; n - i >= 16; i += 16)
        _mm_stream_si128((__m128i *) (out + i), _mm_load_si128((const __m128i *) (x + i)));
#else
    (void) x, (void) out, (void) n;
#endif
    return i;
}

/* ------------------------------------------------------------------- transposing

   out[j][i] = x[i][j] for one square of 8, 4 or 2 rows, using 16-byte vectors. Steps are from
   row to row, in bytes. */

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTACT_SHUFFLE 1
#endif
#endif

/* Size of a row of a square in bytes. */
#ifdef FASTACT_SHUFFLE
#define FASTACT_ROW 16
typedef uint64_t fastact_2x64 __attribute__((vector_size(16)));
typedef uint32_t fastact_4x32 __attribute__((vector_size(16)));
typedef uint16_t fastact_8x16 __attribute__((vector_size(16)));
/* Interleave the low or the high halves of two vectors. */
#define FASTACT_LOW_64(a, b) __builtin_shufflevector(a, b, 0, 2)
#define FASTACT_HIGH_64(a, b) __builtin_shufflevector(a, b, 1, 3)
#define FASTACT_LOW_32(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define FASTACT_HIGH_32(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define FASTACT_LOW_16(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define FASTACT_HIGH_16(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

#define FASTACT_LOAD(i) memcpy(&a##i, x + (i) * x_step, FASTACT_ROW)
#define FASTACT_STORE(v, i) memcpy(out + (i) * out_step, &v##i, FASTACT_ROW)

/* log2(rows) perfect shuffles of the rows are a transposition. The rows are separate variables,
   because GCC 12 keeps arrays in memory. */
#define FASTACT_MIX_2(bits, from, to)                                                           \
    to##0 = FASTACT_LOW_##bits(from##0, from##1), to##1 = FASTACT_HIGH_##bits(from##0, from##1)
#define FASTACT_MIX_4(bits, from, to)                                                           \
    to##0 = FASTACT_LOW_##bits(from##0, from##2), to##1 = FASTACT_HIGH_##bits(from##0, from##2), \
    to##2 = FASTACT_LOW_##bits(from##1, from##3), to##3 = FASTACT_HIGH_##bits(from##1, from##3)
#define FASTACT_MIX_8(bits, from, to)                                                           \
    to##0 = FASTACT_LOW_##bits(from##0, from##4), to##1 = FASTACT_HIGH_##bits(from##0, from##4), \
    to##2 = FASTACT_LOW_##bits(from##1, from##5), to##3 = FASTACT_HIGH_##bits(from##1, from##5), \
    to##4 = FASTACT_LOW_##bits(from##2, from##6), to##5 = FASTACT_HIGH_##bits(from##2, from##6), \
    to##6 = FASTACT_LOW_##bits(from##3, from##7), to##7 = FASTACT_HIGH_##bits(from##3, from##7)

static inline void fastact_square_64(
    const char *x, ptrdiff_t x_step, char *out, ptrdiff_t out_step)
{
    fastact_2x64 a0, a1, b0, b1;
    FASTACT_LOAD(0), FASTACT_LOAD(1);
    FASTACT_MIX_2(64, a, b);
    FASTACT_STORE(b, 0), FASTACT_STORE(b, 1);
}

static inline void fastact_square_32(
    const char *x, ptrdiff_t x_step, char *out, ptrdiff_t out_step)
{
    fastact_4x32 a0, a1, a2, a3, b0, b1, b2, b3;
    FASTACT_LOAD(0), FASTACT_LOAD(1), FASTACT_LOAD(2), FASTACT_LOAD(3);
    FASTACT_MIX_4(32, a, b);
    FASTACT_MIX_4(32, b, a);
    FASTACT_STORE(a, 0), FASTACT_STORE(a, 1), FASTACT_STORE(a, 2), FASTACT_STORE(a, 3);
}

static inline void fastact_square_16(
    const char *x, ptrdiff_t x_step, char *out, ptrdiff_t out_step)
{
    fastact_8x16 a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7;
    FASTACT_LOAD(0), FASTACT_LOAD(1), FASTACT_LOAD(2), FASTACT_LOAD(3);
    FASTACT_LOAD(4), FASTACT_LOAD(5), FASTACT_LOAD(6), FASTACT_LOAD(7);
    FASTACT_MIX_8(16, a, b);
    FASTACT_MIX_8(16, b, a);
    FASTACT_MIX_8(16, a, b);
    FASTACT_STORE(b, 0), FASTACT_STORE(b, 1), FASTACT_STORE(b, 2), FASTACT_STORE(b, 3);
    FASTACT_STORE(b, 4), FASTACT_STORE(b, 5), FASTACT_STORE(b, 6), FASTACT_STORE(b, 7);
}
#else
#define FASTACT_ROW PTRDIFF_MAX
#define fastact_square_16(x, x_step, out, out_step) ((void) (x), (void) (out))
#define fastact_square_32 fastact_square_16
#define fastact_square_64 fastact_square_16
#endif

#endif
