"""The building blocks of the exponential, which the formulas combine.

Method: the argument reduction of Cody and Waite (1980), a minimax polynomial, and 2**k from its bits.
Error: 2**-28.2 in float, 2**-57.9 in double, 2**-33 for what is only rounded to float.
Range: where k fits the exponent: the formulas clip x before; NaN goes on in r, not in 2**k: see below.

With k = round(-x / ln 2) and ln 2 = LN2_HIGH + LN2_LOW (Cody and Waite 1980), the reduced
argument is r + low, |r| <= ln 2 / 2:

    r = x + k LN2_HIGH,    low = k LN2_LOW,
    exp(-x) = 2**k (1 - r + bend),    bend = (r + low)**2 P(r + low) - low

r is exact when computed by an fma, because the sum is a multiple of the last bit of LN2_HIGH and
below 1/2. r and bend are kept separate where the result has an error of less than an ULP. Their sum would
have a rounding error of 2**-26, half of its last bit.

k is rounded by adding `round_at`, a number so large that its last bit is 1: 1.5 * 2**23 in float and
1.5 * 2**52 in double, and the bias of the exponent. The low bits of the sum are then k + bias, and a
shift turns them into 2**k. The bias includes the scale that the formula requires.

P is the minimax polynomial for the error of 1 - r + r**2 P(r) relative to exp(-r) on
|r| <= ln 2 / 2. It is computed with 60 digits by the Remez exchange algorithm in
`tests/minimax.py` and then rounded. A test compares the coefficients. The error is 2**-28.2 in
float and 2**-57.9 in double. Relative to expm1(-r) the error is larger for r near 0, so `tanh`
uses another polynomial there.

Elsewhere, r + low is rounded (`reduced`). Then exp(-x) is 2**k times 1 plus `exponential_less_one`, or
2**k (1 - T) / (1 + T) with T = tanh(r / 2), from an odd polynomial of fewer terms (`twice_tanh_of_half`).

Shifted, the bits of a NaN can be those of infinity, and infinity minus infinity is another NaN. So a
formula with a power of two selects x at the end where that is NaN. It may clip x by `clip`, `at_most` and
`at_least`, which compare integers where that is a single instruction, unlike a minimum of floats with NaN
among them.
"""

cimport cython
from libc.float cimport DBL_MAX, FLT_MAX
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastact.activations.arithmetic cimport (
    INTEGER_MINIMUM, absolute, double_bits, float_bits, fma, fma_of_any, real, with_sign,
)


cdef inline real tiny_of(real kind) noexcept nogil:
    """A number to add to |x| or x; `kind` only selects the type.

    This changes a result by less than 2**-7 ULP. It keeps subnormal x out of all products, because the
    processor handles subnormal numbers slowly.
    """
    return <real> (4.656612873077393e-10 if real is float else 8.673617379884035e-19)      # 2**-31, 2**-60


cdef inline real half_range(real kind) noexcept nogil:
    """2**-S, where S is half of the exponent range of a type."""
    return <real> (2.6469779601696886e-23 if real is float else 1.1113793747425387e-162)  # 2**-75, 2**-538


cdef inline real rounding(int32_t scale, real kind) noexcept nogil:
    """`round_at` for 2**(k + scale)."""
    return <real> (12582912.0 + 127 if real is float else 6755399441055744.0 + 1023) + <real> scale


cdef inline real remainder(real x, real k) noexcept nogil:
    """r, the first part of the reduced argument x + k ln 2."""
    return fma(k, <real> (0.693147182464599609375 if real is float else 0.693147180559945286226764), x)


cdef inline real ln2_low(real kind) noexcept nogil:
    """LN2_LOW."""
    return <real> (-1.904654299957767878541e-9 if real is float else 2.319046813846299615494855e-17)


cdef inline real remainder_low(real k) noexcept nogil:
    """low, the second part of the reduced argument."""
    return k * ln2_low(k)


cdef inline real reduced(real x, real k) noexcept nogil:
    """The reduced argument x + k ln 2, rounded once."""
    return fma(k, ln2_low(k), remainder(x, k))


cdef inline real bend_of(real t, real low) noexcept nogil:
    """t**2 P(t) - low, for which exp(-t) is 1 - t + t**2 P(t); relative to exp(-t)."""
    cdef real t2, t4, p01, p23, p45, p67, p89
    t2 = t * t
    # Estrin's scheme, for short dependency chains.
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
    return fma(t2, p01, -low)


cdef inline real exponential_less_one(real t) noexcept nogil:
    """exp(-t) - 1 for |t| <= ln 2 / 2, with an error relative to exp(-t)."""
    return bend_of(t, t)


cdef inline real one_plus(real t, real scale, real one) noexcept nogil:
    """one + scale exp(-t), rounded once if one + scale is exact; what that sum loses joins the small term.

    `scale` and `one` are powers of two, and |t| <= ln 2 / 2.
    """
    cdef real powers = one + scale, lost = one - (powers - scale)
    return fma(scale, exponential_less_one(t), lost) + powers


cdef inline real twice_tanh_of_half(real t) noexcept nogil:
    """2 tanh(t / 2) = t + t**3 P(t**2) for |t| <= ln 2 / 2.

    P is the minimax polynomial for the error relative to the result, which is 2**-32.5 in float and
    2**-57.7 in double (`tests/minimax.py`).
    """
    cdef real z = t * t, z2, p01, p23, p45
    if real is float:
        p01 = fma(z, <float> 0.008331989869475365, <float> -0.08333330601453781)
        p01 = fma(z * z, <float> -0.0008238598238676786, p01)
    else:
        z2 = z * z
        p01 = fma(z, 0.008333333332989844, -0.08333333333333122)
        p23 = fma(z, 8.542722935423007e-05, -0.0008432539497189759)
        p45 = fma(z, 8.410248560598882e-07, -8.64971559618095e-06)
        p01 = fma(z2, fma(z2, p45, p23), p01)
    return fma(t * z, p01, t)


cdef inline real reduce_argument(real x, real k, real *bend) noexcept nogil:
    """r and bend of exp(-x) = 2**k (1 - r + bend)."""
    cdef real r = remainder(x, k), low = remainder_low(k)
    bend[0] = bend_of(r + low, low)
    return r


cdef inline real quotient(real x, real round_at) noexcept nogil:
    """round_at + round(-x / ln 2)."""
    return fma(x, <real> -1.44269504088896341, round_at)


cdef inline real power_of_two(real rounded) noexcept nogil:
    """2**(e - bias of the type), where e is in the low bits of `rounded`."""
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


cdef inline real at_most(real size, real limit) noexcept nogil:
    """The smaller one of two numbers above 0; NaN, if its sign bit is 0, may become `limit`."""
    cdef float_bits narrow, narrow_limit
    cdef double_bits wide, wide_limit
    if not INTEGER_MINIMUM:
        return limit if size > limit else size
    # As signed integers, of which the numbers below 0 are the smallest: `clip` needs that.
    if real is float:
        narrow.value, narrow_limit.value = size, limit
        narrow.bits = <uint32_t> min(<int32_t> narrow.bits, <int32_t> narrow_limit.bits)
        return narrow.value
    else:
        wide.value, wide_limit.value = size, limit
        wide.bits = <uint64_t> min(<int64_t> wide.bits, <int64_t> wide_limit.bits)
        return wide.value


cdef inline real at_least(real size, real limit) noexcept nogil:
    """The larger one of two numbers above 0; NaN remains so."""
    cdef float_bits narrow, narrow_limit
    cdef double_bits wide, wide_limit
    if not INTEGER_MINIMUM:
        return limit if size < limit else size
    if real is float:
        narrow.value, narrow_limit.value = size, limit
        narrow.bits = <uint32_t> max(<int32_t> narrow.bits, <int32_t> narrow_limit.bits)
        return narrow.value
    else:
        wide.value, wide_limit.value = size, limit
        wide.bits = <uint64_t> max(<int64_t> wide.bits, <int64_t> wide_limit.bits)
        return wide.value


cdef inline real clip(real x, real lowest, real highest) noexcept nogil:
    """The number in [lowest, highest] nearest to x, for lowest < 0 < highest; NaN may become a limit."""
    cdef float_bits narrow, narrow_lowest
    cdef double_bits wide, wide_lowest
    x = at_most(x, highest)
    if not INTEGER_MINIMUM:
        return lowest if x < lowest else x
    # As unsigned integers, the numbers below 0 are the largest ones, and the lowest is the largest.
    if real is float:
        narrow.value, narrow_lowest.value = x, lowest
        narrow.bits = min(narrow.bits, narrow_lowest.bits)
        return narrow.value
    else:
        wide.value, wide_lowest.value = x, lowest
        wide.bits = min(wide.bits, wide_lowest.bits)
        return wide.value


cdef inline real minute_of(real kind) noexcept nogil:
    """The scale of each of the two factors of `split_power`."""
    return <real> (5.421010862427522e-20 if real is float else 7.458340731200207e-155)     # 2**-64, 2**-512


cdef inline real split_rounding(real kind) noexcept nogil:
    """The `round_at` of `split_power`: twice the bias of a power of two that is scaled by `minute_of`."""
    return rounding(127 + 2 * 64 if real is float else 1023 + 2 * 512, kind)


cdef inline real split_power(real rounded, real lift, real *before, real *after) noexcept nogil:
    """2**k * lift = before * after, for k = rounded - `split_rounding`; `before` is about the root of 2**k.

    Both factors may be subnormal, so they are scaled down from normal numbers.
    """
    cdef float_bits narrow, narrow_before
    cdef double_bits wide, wide_before
    cdef real minute = minute_of(rounded), lifted = minute * lift
    if real is float:
        narrow.value = rounded
        narrow_before.bits = (narrow.bits >> 1) << 23
        narrow.bits = (narrow.bits << 23) - narrow_before.bits
        before[0] = narrow_before.value * minute
        after[0] = narrow.value * lifted
    else:
        wide.value = rounded
        wide_before.bits = (wide.bits >> 1) << 52
        wide.bits = (wide.bits << 52) - wide_before.bits
        before[0] = wide_before.value * minute
        after[0] = wide.value * lifted
    return before[0] * after[0]


cdef inline real power_ratio(real upper, real lower) noexcept nogil:
    """2**(upper - lower) for two results of `quotient`; at most 1, and maybe subnormal."""
    cdef float_bits narrow, narrow_lower
    cdef double_bits wide, wide_lower
    if real is float:
        narrow.value, narrow_lower.value = upper, lower
        narrow.bits = ((narrow.bits - narrow_lower.bits) << 23) + (<uint32_t> (127 + 64) << 23)
        return narrow.value * minute_of(upper)
    else:
        wide.value, wide_lower.value = upper, lower
        wide.bits = ((wide.bits - wide_lower.bits) << 52) + (<uint64_t> (1023 + 512) << 52)
        return wide.value * minute_of(upper)


@cython.cdivision(True)
cdef inline real reciprocal(real whole, real rest, real *t) noexcept nogil:
    """y = 1 / whole, which is returned, and the residual t = 1 - y (whole + rest)."""
    cdef real y = <real> 1 / whole
    t[0] = fma(-rest, y, fma(-whole, y, <real> 1))
    return y


cdef inline real inverse_of_sum(real scale, real r, real bend, real *t) noexcept nogil:
    """`reciprocal` of one + scale (1 - r + bend), where one = 2**-S, of `half_range`, and scale = one 2**k.

    The sum is `whole + rest`, where each sum is split into its rounded value and the rounding error
    (Dekker's FastTwoSum). It and its reciprocal are normal numbers for every k.
    """
    cdef real one = half_range(scale), powers = one + scale
    cdef real lost = one - (powers - scale)
    cdef real whole = fma(scale, bend - r, powers)
    cdef real rest = fma(scale, bend, fma(-scale, r, powers - whole)) + lost
    return reciprocal(whole, rest, t)


cdef inline real within(
    real result, real x, real moved, real lowest, real highest
) noexcept nogil:
    """x s(x) of a sigmoid s: x / 2 near 0, -0.0 below `lowest`, x above `highest`, else `result`."""
    result = x * <real> 0.5 if absolute(x) < tiny_of(x) else result
    result = result if x >= lowest else <real> -0.0
    # NaN takes the last branch, which preserves its bits.
    return result if moved <= highest else x


# What gradients are made of. Each is `grad` times a derivative of `before` (high + more) `after`, where
# before * after is a power of two, the terms are multiplied by `grad` first, and the sum is rounded once.

cdef inline real times_finite(real grad, real more) noexcept nogil:
    """grad * more; 0 if `grad` is infinite, which remains so: there is no inf - inf in the sum."""
    cdef real largest = <real> (FLT_MAX if real is float else DBL_MAX)
    return grad * more if absolute(grad) <= largest else <real> 0


cdef inline real signed_gradient(
    real grad, real x, real before, real after, real high, real more
) noexcept nogil:
    """grad before (high + more) after, with the sign of grad * high even if it is zero; x if that is NaN."""
    cdef real sign = grad * high
    grad = grad * before
    more = with_sign(fma_of_any(grad, high, times_finite(grad, more)) * after, sign)
    return more if x == x else x


@cython.cdivision(True)
cdef inline float narrow_reciprocal(
    float size, float *before, float *after, float *scale, float *bend
) noexcept nogil:
    """1 / (1 + e) with e = exp(-size) = 2**k (1 + bend), for 0 <= size <= 215.

    This is `one_plus_exponential` without the steps that make it accurate to an ULP of float: for
    results that are rounded to a narrower type.
    """
    cdef float one = 1
    cdef float rounded = quotient(size, split_rounding(size))
    cdef float r = remainder(size, rounded - split_rounding(size))
    bend[0] = bend_of(r, <float> 0) - r
    scale[0] = split_power(rounded, one, before, after)
    return one / fma(scale[0], bend[0], one + scale[0])


cdef inline double exponential_to_float(double x) noexcept nogil:
    """exp(-x) for 0 <= x <= 700, with a relative error of 2**-33: enough for a result in float."""
    cdef double rounded, r, r2, p01, p23, p45
    rounded = quotient(x, rounding(0, x))
    r = remainder(x, rounded - rounding(0, x))
    r2 = r * r
    p01 = fma(r, -0.16666665868934447, 0.5000000067682077)
    p23 = fma(r, -0.00833349707509034, 0.041666294947361425)
    p45 = fma(r, -0.0001979034137837633, 0.0013944659622064002)
    p01 = fma(r2, fma(r2, p45, p23), p01)
    return fma(r2, p01, <double> 1 - r) * power_of_two(rounded)
