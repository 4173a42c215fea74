# The contiguous loops and the kernel table. Each of the stubs beside this file
# includes it, and is compiled with the flags of one instruction set.
#
# A loop does nothing but apply a formula of activations.pxd to consecutive
# elements, so that the compiler vectorises it. The typedefs say `restrict`:
# without it gcc guards the loop with a test for overlap, and the call in place,
# out == x, would take the scalar side of it. The engine calls a loop only with
# operands that do not overlap or are the same from the first element on. The C standard
# promises nothing for the latter, but every element is read before it is written, in
# any order of the elements; the layout `in_place` of the tests would show a mistake.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t,
    uint8_t, uint16_t, uint32_t, uint64_t,
)

cimport fastact.activations as formula

cdef extern from *:
    """
    #include <stdint.h>
    typedef float *__restrict fastact_f32;
    typedef double *__restrict fastact_f64;
    typedef int8_t *__restrict fastact_i8;
    typedef int16_t *__restrict fastact_i16;
    typedef int32_t *__restrict fastact_i32;
    typedef int64_t *__restrict fastact_i64;
    typedef uint8_t *__restrict fastact_u8;
    typedef uint16_t *__restrict fastact_u16;
    typedef uint32_t *__restrict fastact_u32;
    typedef uint64_t *__restrict fastact_u64;

    /* The conversions of float16 are instructions that compilers do not vectorise with. These
       convert whole vectors and return the number of elements done, 0 where there are none.
       The bits are those of from_half and to_half, but that a signalling NaN is quiet already
       when it is loaded. */
    #if defined(__F16C__) && defined(__AVX512F__)
    #include <immintrin.h>
    #define FASTACT_HALVES 16
    #define FASTACT_LOAD_HALVES(half, out) \
        _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (half))))
    #define FASTACT_STORE_HALVES(x, half) \
        _mm256_storeu_si256((__m256i *) (half), _mm512_cvtps_ph(_mm512_loadu_ps(x), 0))
    #elif defined(__F16C__)
    #include <immintrin.h>
    #define FASTACT_HALVES 8
    #define FASTACT_LOAD_HALVES(half, out) \
        _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (half))))
    #define FASTACT_STORE_HALVES(x, half) \
        _mm_storeu_si128((__m128i *) (half), _mm256_cvtps_ph(_mm256_loadu_ps(x), 0))
    #else
    #define FASTACT_HALVES PY_SSIZE_T_MAX
    #define FASTACT_LOAD_HALVES(half, out) ((void) (half), (void) (out))
    #define FASTACT_STORE_HALVES(x, half) ((void) (x), (void) (half))
    #endif

    static inline Py_ssize_t fastact_load_halves(fastact_u16 half, fastact_f32 out, Py_ssize_t n)
    {
        Py_ssize_t i;
        for (i = 0; n - i >= FASTACT_HALVES; i += FASTACT_HALVES)
            FASTACT_LOAD_HALVES(half + i, out + i);
        return i;
    }
    static inline Py_ssize_t fastact_store_halves(fastact_f32 x, fastact_u16 half, Py_ssize_t n)
    {
        Py_ssize_t i;
        for (i = 0; n - i >= FASTACT_HALVES; i += FASTACT_HALVES)
            FASTACT_STORE_HALVES(x + i, half + i);
        return i;
    }
    """
    ctypedef float *f32 "fastact_f32"
    ctypedef double *f64 "fastact_f64"
    ctypedef int8_t *i8 "fastact_i8"
    ctypedef int16_t *i16 "fastact_i16"
    ctypedef int32_t *i32 "fastact_i32"
    ctypedef int64_t *i64 "fastact_i64"
    ctypedef uint8_t *u8 "fastact_u8"
    ctypedef uint16_t *u16 "fastact_u16"
    ctypedef uint32_t *u32 "fastact_u32"
    ctypedef uint64_t *u64 "fastact_u64"
    Py_ssize_t load_halves "fastact_load_halves"(u16 half, f32 out, Py_ssize_t n) noexcept nogil
    Py_ssize_t store_halves "fastact_store_halves"(f32 x, u16 half, Py_ssize_t n) noexcept nogil

ctypedef fused real_array:
    f32
    f64

ctypedef fused number_array:
    f32
    f64
    i8
    i16
    i32
    i64
    u8
    u16
    u32
    u64


# --------------------------------------------------------------------- loops

cdef void relu(number_array x, number_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu(x[i])


cdef void relu_backward(
    real_array grad, real_array x, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_backward(grad[i], x[i])


cdef void leaky_relu(
    real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.leaky_relu(x[i], negative_slope[i])


cdef void leaky_relu_shared(
    real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    slope = negative_slope[0]
    for i in range(n):
        out[i] = formula.leaky_relu(x[i], slope)


cdef void leaky_relu_backward(
    real_array grad, real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.leaky_relu_backward(grad[i], x[i], negative_slope[i])


cdef void leaky_relu_backward_shared(
    real_array grad, real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    slope = negative_slope[0]
    for i in range(n):
        out[i] = formula.leaky_relu_backward(grad[i], x[i], slope)


cdef void sigmoid(real_array x, real_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid(x[i])


cdef void sigmoid_backward(
    real_array grad, real_array x, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward(grad[i], x[i])


cdef void sigmoid_backward_from_output(
    real_array grad, real_array y, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward_from_output(grad[i], y[i])


# ------------------------------------------------------------------ 16-bit types
#
# relu needs their bits only. The other operations are computed in float32, by the loop
# `narrow` where there is one.

cdef void load_f16(u16 half, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = load_halves(half, out, n)
    for i in range(done, n):
        out[i] = formula.from_half(half[i])


cdef void store_f16(f32 x, u16 half, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = store_halves(x, half, n)
    for i in range(done, n):
        half[i] = formula.to_half(x[i])


cdef void load_bf16(u16 bfloat, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.from_bfloat(bfloat[i])


cdef void store_bf16(f32 x, u16 bfloat, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        bfloat[i] = formula.to_bfloat(x[i])


cdef void relu_f16(u16 x, u16 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_half(x[i], 0x7C00)


cdef void relu_bf16(u16 x, u16 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_half(x[i], 0x7F80)


cdef void sigmoid_narrow(f32 x, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_narrow(x[i])


cdef void sigmoid_backward_narrow(f32 grad, f32 x, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward_narrow(grad[i], x[i])


# ------------------------------------------------------------------ every second
#
# The commonest stride. Written out, it is loaded in whole vectors and shuffled.

ctypedef fused bits_array:
    u16
    u32
    u64

cdef void every_second(bits_array x, bits_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    # Up to the last element but one: a vector also loads the element behind its last.
    for i in range(n - 1):
        out[i] = x[2 * i]
    if n > 0:
        out[n - 1] = x[2 * n - 2]


# --------------------------------------------------------------------- table
#
# <operation>_<type>: the loop over arrays. <operation>_shared_<type>, where there is one:
# the same with the last operand a single value. load_<type>, store_<type>: to and from
# float32, for a type that is computed in it, and <operation>_narrow: the loop in between,
# where it is not <operation>_f32. every_second_<bytes>: a copy of every second element.

cdef object row(void *loop):
    return PyCapsule_New(loop, "fastact.kernel", NULL)


TABLE = {
    "relu_f32": row(<void *> relu[f32]),
    "relu_f64": row(<void *> relu[f64]),
    "relu_f16": row(<void *> relu_f16),
    "relu_bf16": row(<void *> relu_bf16),
    "relu_i8": row(<void *> relu[i8]),
    "relu_i16": row(<void *> relu[i16]),
    "relu_i32": row(<void *> relu[i32]),
    "relu_i64": row(<void *> relu[i64]),
    "relu_u8": row(<void *> relu[u8]),
    "relu_u16": row(<void *> relu[u16]),
    "relu_u32": row(<void *> relu[u32]),
    "relu_u64": row(<void *> relu[u64]),
    "relu_backward_f32": row(<void *> relu_backward[f32]),
    "relu_backward_f64": row(<void *> relu_backward[f64]),
    "leaky_relu_f32": row(<void *> leaky_relu[f32]),
    "leaky_relu_f64": row(<void *> leaky_relu[f64]),
    "leaky_relu_shared_f32": row(<void *> leaky_relu_shared[f32]),
    "leaky_relu_shared_f64": row(<void *> leaky_relu_shared[f64]),
    "leaky_relu_backward_f32": row(<void *> leaky_relu_backward[f32]),
    "leaky_relu_backward_f64": row(<void *> leaky_relu_backward[f64]),
    "leaky_relu_backward_shared_f32": row(<void *> leaky_relu_backward_shared[f32]),
    "leaky_relu_backward_shared_f64": row(<void *> leaky_relu_backward_shared[f64]),
    "sigmoid_f32": row(<void *> sigmoid[f32]),
    "sigmoid_f64": row(<void *> sigmoid[f64]),
    "sigmoid_narrow": row(<void *> sigmoid_narrow),
    "sigmoid_backward_f32": row(<void *> sigmoid_backward[f32]),
    "sigmoid_backward_f64": row(<void *> sigmoid_backward[f64]),
    "sigmoid_backward_narrow": row(<void *> sigmoid_backward_narrow),
    "sigmoid_backward_from_output_f32": row(<void *> sigmoid_backward_from_output[f32]),
    "sigmoid_backward_from_output_f64": row(<void *> sigmoid_backward_from_output[f64]),
    "load_f16": row(<void *> load_f16),
    "store_f16": row(<void *> store_f16),
    "load_bf16": row(<void *> load_bf16),
    "store_bf16": row(<void *> store_bf16),
    "every_second_2": row(<void *> every_second[u16]),
    "every_second_4": row(<void *> every_second[u32]),
    "every_second_8": row(<void *> every_second[u64]),
}
