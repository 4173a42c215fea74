"""Arithmetic shared by the formulas: types, signs, fused multiply-add, NaN.

Method: bits of integers, and sums and products with their errors; `fma` by the processor, or in software.
Error: 0.5 ULP: one rounding; of doubles in software, unless a product is below 2**-969.
Range: any; infinities and NaN follow IEEE 754, except the sign of a NaN: see `pass_nan`.
"""

from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t,
    uint8_t, uint16_t, uint32_t, uint64_t,
)

cdef extern from *:
    """
    #include <math.h>

    /* Results would be off by millions of ULP, and NaN would be lost. */
    #if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) \\
        || defined(__NO_SIGNED_ZEROS__) || defined(_M_FP_FAST) \\
        || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
    #error "fastact cannot be compiled with -ffast-math, -Ofast or parts of them: see CFLAGS"
    #endif

    /* Whether fma() is a single instruction, which the compiler vectorizes. */
    #if defined(__FMA__) || defined(__FP_FAST_FMA) || defined(__aarch64__) \\
        || defined(_M_ARM64) || (defined(_MSC_VER) && defined(__AVX2__))
    #define FASTACT_HARDWARE_FMA 1
    #else
    #define FASTACT_HARDWARE_FMA 0
    #endif

    /* Whether such an instruction returns a NaN among its operands as it is. Those of Arm that negate
       an operand negate a NaN, too. */
    #if FASTACT_HARDWARE_FMA && !defined(__aarch64__) && !defined(_M_ARM64)
    #define FASTACT_PASSES_NAN 1
    #else
    #define FASTACT_PASSES_NAN 0
    #endif

    /* Whether a minimum of integers is one instruction where one of floats, by a comparison, is two. */
    #ifdef __AVX512F__
    #define FASTACT_INTEGER_MINIMUM 1
    #else
    #define FASTACT_INTEGER_MINIMUM 0
    #endif
    """
    const bint HARDWARE_FMA "FASTACT_HARDWARE_FMA"
    const bint PASSES_NAN "FASTACT_PASSES_NAN"
    const bint INTEGER_MINIMUM "FASTACT_INTEGER_MINIMUM"
    float c_fmaf "fmaf"(float a, float b, float c) noexcept nogil
    double c_fma "fma"(double a, double b, double c) noexcept nogil
    float c_fabsf "fabsf"(float x) noexcept nogil
    double c_fabs "fabs"(double x) noexcept nogil
    float c_copysignf "copysignf"(float size, float sign) noexcept nogil
    double c_copysign "copysign"(double size, double sign) noexcept nogil


ctypedef fused real:
    float
    double

ctypedef fused number:
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef union float_bits:
    float value
    uint32_t bits

cdef union double_bits:
    double value
    uint64_t bits


cdef inline real absolute(real x) noexcept nogil:
    if real is float:
        return c_fabsf(x)
    else:
        return c_fabs(x)


cdef inline real with_sign(real size, real sign) noexcept nogil:
    if real is float:
        return c_copysignf(size, sign)
    else:
        return c_copysign(size, sign)


cdef inline double add_to_odd(double a, double b) noexcept nogil:
    """a + b rounded to odd: the exact sum, or else the adjacent number whose last bit is set.

    Such a sum can be rounded again, to a precision that is at least two bits lower,
    without a double rounding error (Boldo and Melquiond 2008, "Emulation of FMA
    and correctly rounded sums: proved algorithms using rounding to odd"). a and b are finite.
    """
    cdef double total = a + b
    cdef double part = total - a
    cdef double error = (a - (total - part)) + (b - part)     # Knuth's TwoSum: exact
    # The sum is rounded towards zero if the error has the other sign, and then its last bit is set. This
    # uses integer arithmetic, because SSE2 has no 64-bit comparisons.
    # Infinity and NaN have no error; `fma` does not use what they become here.
    cdef double_bits odd, lost
    odd.value = total
    lost.value = error
    cdef uint64_t magnitude = lost.bits << 1
    cdef uint64_t inexact = (magnitude | (0 - magnitude)) >> 63
    cdef uint64_t away = (lost.bits ^ odd.bits) >> 63
    odd.bits = (odd.bits - (inexact & away)) | inexact
    return odd.value


cdef inline double to_odd_float(double x) noexcept nogil:
    """x rounded to odd at the 24 bits of a float, so that it can be rounded again to float16."""
    cdef double_bits odd
    cdef uint64_t rest = (<uint64_t> 1 << 29) - 1              # the bits that a float does not have
    odd.value = x
    odd.bits = (odd.bits | ((odd.bits & rest) + rest)) & ~rest
    return odd.value


cdef inline double high_half(double x) noexcept nogil:
    """x rounded to 26 bits, using integers so that the largest x does not overflow."""
    cdef double_bits half
    half.value = x
    half.bits = (half.bits + (<uint64_t> 1 << 26)) & ~((<uint64_t> 1 << 27) - 1)
    return half.value


cdef inline double product_error(double a, double b, double product) noexcept nogil:
    """a * b - product, exactly (Dekker 1971)."""
    cdef double high_a = high_half(a), low_a = a - high_a
    cdef double high_b = high_half(b), low_b = b - high_b
    return ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


cdef inline real fma(real a, real b, real c) noexcept nogil:
    """a * b + c, rounded once.

    The software version follows Boldo and Melquiond (2008). The product of two floats is
    exact in a double. The product of two doubles is exact in a pair of doubles, unless it is
    below 2**-969.
    """
    cdef double high, low, total, part, rest, result
    if HARDWARE_FMA:
        if real is float:
            return c_fmaf(a, b, c)
        else:
            return c_fma(a, b, c)
    if real is float:
        high = <double> a * <double> b
        result = add_to_odd(high, <double> c)
    else:
        high = a * b
        low = product_error(a, b, high)
        # The sum of three numbers: c + low, then high + (c + low), and then the rounding errors
        # of both.
        total = c + low
        part = total - c
        rest = (c - (total - part)) + (low - part)
        result = high + total
        part = result - high
        result += add_to_odd((high - (result - part)) + (total - part), rest)
    # Infinity, NaN and the sign of zero come from the plain sum. (Where a float is infinite, `result`
    # may also be the largest double of that sign.)
    return <real> (result if absolute(result) > 0 else high + c)


cdef inline real fma_of_any(real a, real b, real c) noexcept nogil:
    """fma that is also exact for doubles with a product below 2**-969; calls libm in software."""
    if real is float:
        return fma(a, b, c)
    else:
        return c_fma(a, b, c)


cdef inline real pass_nan(real result, real x) noexcept nogil:
    """`result`, or x with its NaN payload and sign if x is NaN.

    On x86, an operation on a NaN returns that NaN, so `result` already has the bits of x. The software
    fma and Arm's instructions may lose the sign. This function is only valid for formulas in which no
    other NaN can arise between x and `result`. It is not valid if NaN x can produce an infinity in an
    intermediate step, such as a power of two built from its bits, because operations on infinity
    can produce a different NaN. Such a formula must end in ``result if x == x else x``.
    """
    if PASSES_NAN:
        return result
    return result if x == x else x
