"""The formulas: one forward/backward pair per activation, and nothing else.

Every function is scalar, inline, branch-free and fused over float and double, so
that a plain loop over it vectorises on every instruction set (`_kernels/`).

Same bits everywhere
--------------------
Each operation below is one IEEE 754 operation, rounded to nearest; the compiler
may neither contract nor reorder (`-ffp-contract=off`, no fast-math). Where a
fused multiply-add is meant, `fma` is written, and an instruction set without one
(x86-64 baseline) computes the same bits in software.

Selects are written so that NaN takes the last branch: ``0 if x <= 0 else x``.
"""

cimport cython
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t,
    uint8_t, uint16_t, uint32_t, uint64_t,
)

cdef extern from *:
    """
    #include <math.h>

    /* Whether fma() is one instruction, which the compiler vectorises. */
    #if defined(__FMA__) || defined(__FP_FAST_FMA) || defined(__aarch64__) \\
        || defined(_M_ARM64) || (defined(_MSC_VER) && defined(__AVX2__))
    #define FASTACT_HARDWARE_FMA 1
    #else
    #define FASTACT_HARDWARE_FMA 0
    #endif
    """
    const bint HARDWARE_FMA "FASTACT_HARDWARE_FMA"
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


# ---------------------------------------------------------------- arithmetic

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
    """a + b rounded to odd: exact, or the neighbour whose last bit is set.

    A sum rounded so can be rounded once more, to at most two bits less, without
    the error of double rounding (Boldo and Melquiond 2008, "Emulation of FMA
    and correctly rounded sums: proved algorithms using rounding to odd").
    """
    cdef double total = a + b
    cdef double part = total - a
    cdef double error = (a - (total - part)) + (b - part)     # Knuth's TwoSum: exact
    # An inexact even sum has an odd neighbour on either side, and the exact sum lies
    # between it and the one towards `error`. No compares: SSE2 has none of 64 bits.
    cdef double_bits odd, lost
    odd.value = total
    lost.value = error
    cdef uint64_t magnitude = lost.bits << 1
    cdef uint64_t inexact = (magnitude | (0 - magnitude)) >> 63
    cdef uint64_t even = 1 - (odd.bits & 1)
    cdef uint64_t away = (lost.bits ^ odd.bits) >> 63
    odd.bits += (inexact & even) - ((inexact & even & away) << 1)
    return odd.value if total - total == 0 else total          # infinity and NaN


cdef inline double to_odd_float(double x) noexcept nogil:
    """x rounded to odd to the 24 bits of a float: may be rounded again, to a float16."""
    cdef double_bits odd
    cdef uint64_t rest = (<uint64_t> 1 << 29) - 1              # the bits that a float lacks
    odd.value = x
    odd.bits = (odd.bits | ((odd.bits & rest) + rest)) & ~rest
    return odd.value


cdef inline double high_half(double x) noexcept nogil:
    """x rounded to 26 bits, in integers so that the largest x does not overflow."""
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

    In software (Boldo and Melquiond 2008), a double holds the product of two floats
    exactly, and a pair of doubles that of two doubles, unless it is below 2**-969.
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
        # The sum of three: c + low, then high + that, and all that was lost.
        total = c + low
        part = total - c
        rest = (c - (total - part)) + (low - part)
        result = high + total
        part = result - high
        result += add_to_odd((high - (result - part)) + (total - part), rest)
    # Infinity, NaN, and the sign of zero are those of the plain sum.
    return <real> (result if absolute(result) > 0 else high + c)


cdef inline real fma_of_any(real a, real b, real c) noexcept nogil:
    """fma, also for doubles whose product is below 2**-969; in software, a call of libm."""
    if real is float:
        return fma(a, b, c)
    else:
        return c_fma(a, b, c)


cdef inline real pass_nan(real result, real x) noexcept nogil:
    """`result`, which is NaN where x is, with the bits that NaN x has.

    An instruction hands a NaN operand on unchanged. In software it may lose its sign.
    """
    if HARDWARE_FMA:
        return result
    return result if x == x else x


# ------------------------------------------------------------ IEEE 754 binary16

cdef inline float from_half(uint16_t half) noexcept nogil:
    """The value of a float16, given by its bits; exact."""
    cdef int32_t size = half & 0x7FFF
    cdef float_bits normal, subnormal, result
    # 112 = 127 - 15 is the difference of the biases. Infinity and NaN have the
    # largest exponent in both.
    cdef uint32_t bias = 112 << 23, twice = 224 << 23
    normal.bits = (<uint32_t> size << 13) + (bias if size < 0x7C00 else twice)
    subnormal.value = <float> size * <float> 5.960464477539063e-08       # 2**-24
    result.bits = subnormal.bits if size < 0x0400 else normal.bits
    result.bits |= (<uint32_t> half & 0x8000) << 16
    return result.value


cdef inline uint16_t to_half(float x) noexcept nogil:
    """The bits of the float16 nearest to x, ties to even."""
    cdef float_bits value, tiny
    value.value = x
    cdef uint32_t sign = (value.bits >> 16) & 0x8000
    cdef uint32_t size = value.bits & 0x7FFFFFFF
    # Normal: round off 13 bits in integers; a carry moves on to the exponent.
    cdef uint32_t normal = (size + 0x0FFF + ((size >> 13) & 1) - (<uint32_t> 112 << 23)) >> 13
    # Subnormal: the last bit of a sum with 1/2 is 2**-24, that of a float16.
    tiny.bits = size
    tiny.value = tiny.value + <float> 0.5
    cdef uint32_t subnormal = tiny.bits - <uint32_t> 0x3F000000
    # NaN stays NaN, quiet, with the bits of its payload that fit.
    cdef uint32_t nan = 0x7E00 | ((size >> 13) & 0x01FF)
    cdef uint32_t result = subnormal if size < 0x38800000 else normal
    result = 0x7C00 if size >= 0x477FF000 else result      # from 65520 on
    result = nan if size > 0x7F800000 else result
    return <uint16_t> (result | sign)


# ---------------------------------------------------------------------- bfloat16

cdef inline float from_bfloat(uint16_t bfloat) noexcept nogil:
    """The value of a bfloat16, given by its bits: the upper half of a float."""
    cdef float_bits result
    result.bits = <uint32_t> bfloat << 16
    return result.value


cdef inline uint16_t to_bfloat(float x) noexcept nogil:
    """The bits of the bfloat16 nearest to x, ties to even."""
    cdef float_bits value
    value.value = x
    cdef uint32_t rounded = (value.bits + 0x7FFF + ((value.bits >> 16) & 1)) >> 16
    # NaN stays NaN, quiet, with the bits of its payload that fit.
    cdef uint32_t nan = (value.bits >> 16) | 0x0040
    return <uint16_t> (rounded if x == x else nan)


# ---------------------------------------------------------------------- relu

cdef inline number relu(number x) noexcept nogil:
    return 0 if x <= 0 else x


cdef inline uint16_t relu_half(uint16_t half, uint16_t infinity) noexcept nogil:
    """relu of a 16-bit type, given by its bits, and those of its infinity."""
    cdef int16_t signed_half = <int16_t> half
    cdef int16_t size = <int16_t> (half & 0x7FFF)
    cdef uint16_t positive = half if signed_half > 0 else 0
    return half if size > <int16_t> infinity else positive


# In both gradients NaN is asked for last. Asked for first, it costs up to a half more.

cdef inline real relu_backward(real grad, real x) noexcept nogil:
    cdef real result = grad if x > 0 else 0
    return result if x == x else x


# ---------------------------------------------------------------- leaky relu

cdef inline real leaky_relu(real x, real negative_slope) noexcept nogil:
    return x if x > 0 else negative_slope * x


cdef inline real leaky_relu_backward(real grad, real x, real negative_slope) noexcept nogil:
    cdef real result = grad if x > 0 else negative_slope * grad
    return result if x == x else x


# ------------------------------------------------------------------- sigmoid
#
# The exponential. With k = round(-x / ln 2) and ln 2 = LN2_HIGH + LN2_LOW (Cody and
# Waite 1980), the reduced argument is r + low, |r| <= ln 2 / 2:
#
#     r = x + k LN2_HIGH,    low = k LN2_LOW,
#     exp(-x) = 2**k (1 - r + bend),    bend = (r + low)**2 P(r + low) - low
#
# r is exact, in an fma: the sum is a multiple of the last bit of LN2_HIGH and below
# 1/2. It is handed on apart from bend: their sum would be off by 2**-26, half its
# last bit, and this would be the greatest error of the sigmoid but for its rounding.
#
# k is rounded by adding a number so large that its last bit is 1 (`round_at`), which
# also leaves k + bias in the low bits, one shift away from 2**k; the bias holds the
# scale that each formula wants.
#
# P is the minimax polynomial for the relative error of 1 - r + r**2 P(r) against
# exp(-r) on |r| <= ln 2 / 2, by Remez's exchange in 60 digits, then rounded:
# `tests/minimax.py` computes the coefficients, and a test compares. The error is
# 2**-28.2 in float and 2**-57.9 in double.

cdef inline real reduce_argument(real x, real k, real *bend) noexcept nogil:
    """r and bend of exp(-x) = 2**k (1 - r + bend)."""
    cdef real r, low, t, t2, t4, p01, p23, p45, p67, p89
    if real is float:
        r = fma(k, <float> 0.693147182464599609375, x)
        low = k * <float> -1.904654299957767878541e-9
    else:
        r = fma(k, <double> 0.693147180559945286226764, x)
        low = k * <double> 2.319046813846299615494855e-17
    t = r + low
    t2 = t * t
    # Estrin's order: short chains.
    if real is float:
        p01 = fma(t, <float> -0.16666520634939012, <float> 0.49999993449121903)
        p23 = fma(t, <float> -0.008368716671222378, <float> 0.0416683877811)
        p23 = fma(t2, <float> 0.001381459878757596, p23)
        p01 = fma(t2, p23, p01)
    else:
        t4 = t2 * t2
        p01 = fma(t, -0.16666666666666413, 0.5000000000000011)
        p23 = fma(t, -0.008333333333494465, 0.041666666666530155)
        p45 = fma(t, -0.0001984126950656992, 0.0013888888943630203)
        p67 = fma(t, -2.7557586382096293e-06, 2.4801493098807193e-05)
        p89 = fma(t, -2.5000058878116688e-08, 2.763024841517786e-07)
        p45 = fma(t2, p67, p45)
        p01 = fma(t2, p23, p01)
        p45 = fma(t4, p89, p45)
        p01 = fma(t4, p45, p01)
    bend[0] = fma(t2, p01, -low)
    return r


cdef inline real quotient(real x, real round_at) noexcept nogil:
    """round_at + round(-x / ln 2)."""
    if real is float:
        return fma(x, <float> -1.44269504088896341, round_at)
    else:
        return fma(x, <double> -1.44269504088896341, round_at)


cdef inline real power_of_two(real rounded) noexcept nogil:
    """2**(e - bias of the type), e being in the low bits of `rounded`."""
    cdef float_bits narrow
    cdef double_bits wide
    if real is float:
        narrow.value = rounded
        narrow.bits <<= 23
        return narrow.value
    else:
        wide.value = rounded
        wide.bits <<= 52
        return wide.value


@cython.cdivision(True)
cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x)), subnormal results included.

    With one = 2**-S and scale = one * 2**k, the denominator (1 + exp(-x)) 2**-S is
    one + scale + scale * (bend - r). It is kept as `whole + rest`, each sum split
    into its rounded value and what that lost (Dekker's FastTwoSum), and the
    rounded reciprocal y is corrected once by its residual 1 - y (whole + rest).

    Error: 0.5 ULP from the last rounding, and below 0.22 from the exponential (P, the
    rounding of bend and of low): 0.71 ULP at most where the result is normal. Where it is
    subnormal, the second rounding makes it 0.80. `fastact check --exhaustive` tells.

    S is half of the exponent range of the results, so that for no x the
    denominator or its reciprocal leaves the normal numbers: a result that is
    subnormal is rounded a second time by the last product, and only there.
    """
    cdef real tiny, lowest, highest, one, round_at, shifted, rounded, r, bend, scale
    cdef real powers, lost, whole, rest, y
    if real is float:
        tiny = <float> 4.656612873077393e-10                   # 2**-31
        lowest, highest = -105, 25
        one = <float> 2.6469779601696886e-23                   # 2**-75
        round_at = <float> (12582912.0 + 127 - 75)             # 1.5 * 2**23 + bias
    else:
        tiny = 8.673617379884035e-19                           # 2**-60
        lowest, highest = -746, 40
        one = 1.1113793747425387e-162                          # 2**-538
        round_at = 6755399441055744.0 + 1023 - 538             # 1.5 * 2**52 + bias
    # Moves the result by less than 2**-7 ULP, and keeps denormal x, which the
    # processor handles slowly, out of every product.
    shifted = x + tiny
    shifted = highest if shifted > highest else shifted
    rounded = quotient(shifted, round_at)
    r = reduce_argument(shifted, rounded - round_at, &bend)
    scale = power_of_two(rounded)
    powers = one + scale
    lost = one - (powers - scale)
    whole = fma(scale, bend - r, powers)
    rest = fma(scale, bend, fma(-scale, r, powers - whole)) + lost
    y = <real> 1 / whole
    y = fma(y, fma(-rest, y, fma(-whole, y, <real> 1)), y)
    # Below `lowest`, where all of the above is nonsense, the result rounds to zero.
    return <real> 0 if x < lowest else pass_nan(y * one, shifted)


@cython.cdivision(True)
cdef inline real sigmoid_backward(real grad, real x) noexcept nogil:
    """grad * s(x) * s(-x) = grad * e / (1 + e)**2 with e = exp(-|x|).

    As in `sigmoid`, 1 / (1 + e) = y (1 + t), with t the residual of the division.
    With y**2 = square + low and e = 2**k (1 - r + bend),

        e / (1 + e)**2 = 2**k (square + more),
        more = (bend - r) square + 2 t square (1 + bend - r) + low,

    and `grad` is multiplied in before the last sum: rounded once, in an fma. Error: at most
    1.10 ULP for grad = 1 in float, and 1.35 for those sampled by `fastact check`.

    2**k is two factors of about the same size: `before`, which `grad` is multiplied by first of
    all, lest it overflow, and `after`. What a small `grad` loses by the former to underflow is
    less than half an ULP of the result. At |x| = 215 (1500), beyond which x is clipped, both
    are zero: there an infinite `grad` gives NaN, as infinity times zero does.
    """
    cdef real tiny, highest, minute, largest, round_at
    cdef real size, clipped, rounded, part, before, after, scale, r, low, bend
    cdef real powers, whole, rest, y, t, square, more
    cdef real zero = 0, one = 1                                # a literal would be a double in C
    if real is float:
        tiny = <float> 4.656612873077393e-10                   # 2**-31
        highest = 215
        minute = <float> 5.421010862427522e-20                 # 2**-64
        largest = <float> 3.4028234663852886e+38
        round_at = <float> (12582912.0 + 127 + 64)             # 1.5 * 2**23 + biases
    else:
        tiny = 8.673617379884035e-19                           # 2**-60
        highest = 1500
        minute = 7.458340731200207e-155                        # 2**-512
        largest = 1.7976931348623157e+308
        round_at = 6755399441055744.0 + 1023 + 512             # 1.5 * 2**52 + biases
    size = absolute(x) + tiny
    clipped = highest if size > highest else size
    rounded = quotient(clipped, round_at)
    r = reduce_argument(clipped, rounded - round_at, &bend)
    # Either may be subnormal, and is scaled from a normal number.
    part = fma(rounded - round_at, <real> 0.5, round_at)
    before = power_of_two(part) * minute
    after = power_of_two(rounded - (part - round_at)) * minute
    # 1 + e.
    scale = before * after
    powers = one + scale
    whole = fma(scale, bend - r, powers)
    rest = fma(scale, bend, fma(-scale, r, powers - whole)) + (scale - (powers - one))
    y = one / whole
    t = fma(-rest, y, fma(-whole, y, one))
    square = y * y
    low = fma(y, y, -square)
    more = fma((t + t) * square, one + (bend - r), low)
    more = fma(-r, square, fma(bend, square, more))
    grad = grad * before
    # An infinite gradient stays infinite: inf - inf must not be met.
    more = grad * more if absolute(grad) <= largest else zero
    # The factor is positive; a gradient of -0.0, or one that becomes it, keeps its sign.
    more = fma_of_any(grad, square, more) * after
    return with_sign(pass_nan(more, size), grad)


cdef inline real sigmoid_backward_from_output(real grad, real y) noexcept nogil:
    """grad * y * (1 - y), with y - y**2 rounded once: at most 1.5 ULP."""
    return grad * pass_nan(fma(-y, y, y), y)


# For float16 and bfloat16: correctly rounded (the gradient for grad = 1). The tests try all
# 65,536 inputs of both types.

@cython.cdivision(True)
cdef inline float sigmoid_narrow(float x) noexcept nogil:
    """sigmoid of a number of a narrower type, to be rounded to that type.

    As `sigmoid`, without what makes that exact to less than an ULP of float: off by 2.6 above
    x = -10 and 5.2 below, which is enough but where the result is next to a tie of the
    narrower type. Many a
    1/2 + x/4 is one, for small x, and sigmoid lies x**3/48 nearer to 1/2, which is not seen
    in float. Below 2**-4, shrinking x by 2**-12 makes it seen: together less than 2**-16, where
    no other x/4 is nearer to a tie. Otherwise x is moved by 2**-24; without that, sigmoid(-0.1639)
    in float16 is the one result that is off.
    """
    cdef float one, round_at, moved, rounded, r, t2, p01, p23, scale, whole, y
    one = <float> 2.6469779601696886e-23                       # 2**-75
    round_at = <float> (12582912.0 + 127 - 75)                 # 1.5 * 2**23 + bias
    moved = x - <float> 5.960464477539063e-08                  # never denormal
    moved = <float> 25 if moved > 25 else moved
    rounded = quotient(moved, round_at)
    r = fma(rounded - round_at, <float> 0.693147182464599609375, moved)
    t2 = r * r
    p01 = fma(r, <float> -0.16667114650028393, <float> 0.49999231495392864)
    p23 = fma(r, <float> -0.008312520140459853, <float> 0.041890156813028473)
    scale = power_of_two(rounded)
    whole = fma(scale, fma(t2, fma(t2, p23, p01), -r), one + scale)
    y = <float> 1 / whole * one
    y = <float> 0 if x < -105 else pass_nan(y, moved)
    return fma(x, <float> 0.24993896484375, <float> 0.5) if absolute(x) < <float> 0.0625 else y


cdef inline float sigmoid_backward_narrow(float grad, float x) noexcept nogil:
    """sigmoid_backward for numbers of a narrower type, to be rounded to that type."""
    return <float> to_odd_float(sigmoid_backward(<double> grad, <double> x))
