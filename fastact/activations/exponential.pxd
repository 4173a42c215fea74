"""The exponential, in the parts that the formulas put together.

With k = round(-x / ln 2) and ln 2 = LN2_HIGH + LN2_LOW (Cody and Waite 1980), the reduced
argument is r + low, |r| <= ln 2 / 2:

    r = x + k LN2_HIGH,    low = k LN2_LOW,
    exp(-x) = 2**k (1 - r + bend),    bend = (r + low)**2 P(r + low) - low

r is exact, in an fma: the sum is a multiple of the last bit of LN2_HIGH and below 1/2. It is
kept apart from bend: their sum would be off by 2**-26, half its last bit, and this would be the
greatest error of the sigmoid but for its rounding.

k is rounded by adding a number so large that its last bit is 1 (`round_at`). The sum also has
k + bias in its low bits, one shift away from 2**k; the bias holds the scale that each formula
wants.

P is the minimax polynomial for the error of 1 - r + r**2 P(r) relative to exp(-r) on
|r| <= ln 2 / 2, by Remez's exchange in 60 digits, then rounded: `tests/minimax.py` computes the
coefficients, and a test compares. The error is 2**-28.2 in float and 2**-57.9 in double. It is
not as small relative to expm1(-r), where r is near 0: `tanh` has a polynomial of its own there.
"""

from fastact.activations.arithmetic cimport double_bits, float_bits, fma, real


cdef inline real remainder(real x, real k) noexcept nogil:
    """r, the first part of the reduced argument x + k ln 2."""
    if real is float:
        return fma(k, <float> 0.693147182464599609375, x)
    else:
        return fma(k, <double> 0.693147180559945286226764, x)


cdef inline real remainder_low(real k) noexcept nogil:
    """low, the second part of the reduced argument."""
    if real is float:
        return k * <float> -1.904654299957767878541e-9
    else:
        return k * <double> 2.319046813846299615494855e-17


cdef inline real bend_of(real t, real low) noexcept nogil:
    """t**2 P(t) - low, for which exp(-t) is 1 - t + t**2 P(t); relative to exp(-t)."""
    cdef real t2, t4, p01, p23, p45, p67, p89
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
    return fma(t2, p01, -low)


cdef inline real reduce_argument(real x, real k, real *bend) noexcept nogil:
    """r and bend of exp(-x) = 2**k (1 - r + bend)."""
    cdef real r = remainder(x, k), low = remainder_low(k)
    bend[0] = bend_of(r + low, low)
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
