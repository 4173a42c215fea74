"""tanh and its gradient.

Method: (1 - e) / (1 + e) with e = exp(-2 |x|), in two sums; in double, by tanh of the reduced argument.
Error: float32 1.97 ULP (all inputs), gradient 3.67; float64 1.47, 3.32 (sampled); 16 bits correctly rounded.
Range: [-1, 1], monotone; x itself near 0, NaN gives NaN; the gradient is 0 at the infinities.
"""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, real, with_sign
from fastact.activations.exponential cimport (
    at_least, at_most, narrow_reciprocal, power_of_two, remainder, rounding, twice_tanh_of_half,
)
from fastact.activations.sigmoid cimport logistic_slope


@cython.cdivision(True)
cdef inline real tanh(real x) noexcept nogil:
    """(1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x.

    With the reduced argument r = |x| + k ln 2 / 2, from which the second part of ln 2 is left out:

    In float, e is 2**k (1 + 2 p) with p = (exp(-2 r) - 1) / 2 = -r + r**2 P(r). The sums
    (1 - 2**k) - 2 2**k p and (1 + 2**k) + 2 2**k p have one rounding each; the first one only rises, and
    the second one only falls. So the result is monotone, and accurate near 0, where k is 0. P is the minimax
    polynomial for the error relative to r, which is 2**-26.1 (`tests/minimax.py`).

    In double, T = tanh(r) takes fewer terms than p. e is 2**k (1 - T) / (1 + T), and the result 1 - w (1 - T)
    with w = 2**k / h and h = (1 + e) (1 + T) / 2. The residual of the division, the rounding of h and that of
    1 - w are added to the small terms, so that the last sum alone rounds. For k = 0, w is 1, and the
    result is T.

    Below `lowest` the result rounds to x, which the computation exceeds. Such x are kept out, because the
    processor handles subnormal numbers slowly. The smaller one of two numbers is x if x is NaN.
    """
    cdef real lowest, highest, size, moved, rounded, k, scale, y
    cdef real one = 1, half = <real> 0.5                       # literals would be double in C
    cdef float r, r2, p01, p23
    cdef double u, h, t, w, low
    if real is float:
        lowest = <float> 1.220703125e-4                        # 2**-13
        highest = <float> 9.5                                  # tanh rounds to 1 above it
    else:
        lowest = 3.725290298461914e-09                         # 2**-28
        highest = 20
    size = absolute(x)
    moved = at_least(at_most(size, highest), lowest)
    rounded = fma(moved, <real> -2.88539008177792681, rounding(0, x))    # -2 / ln 2
    k = rounded - rounding(0, x)
    scale = power_of_two(rounded)
    if real is float:
        r = fma(k, <float> 0.3465735912322998046875, moved)
        r2 = r * r
        p01 = fma(r, <float> -0.6666617393493652, <float> 1.0)
        p23 = fma(r, <float> -0.1338653415441513, <float> 0.3333302438259125)
        p23 = fma(r2, <float> 0.04462864249944687, p23)
        p01 = fma(r2, p23, p01)
        r = fma(r2, p01, -r) * (scale + scale)
        y = ((one - scale) - r) / ((one + scale) + r)
    else:
        t = twice_tanh_of_half(remainder(moved + moved, k)) * half
        u = fma(-scale, half, half)
        h = fma(u, t, fma(scale, half, half))
        y = one / h
        low = fma(u, t, fma(scale, half, half - h))
        low = fma(-low, y, fma(-h, y, one))
        w = scale * y
        y = one - w
        y += fma(w, t, fma(-w, fma(-t, low, low), (one - y) - w))
    return with_sign(y if y < size else size, x)


cdef inline real tanh_backward(real grad, real x) noexcept nogil:
    """grad * (1 - tanh(x)**2) = grad * 4 e / (1 + e)**2: see `logistic_slope`."""
    return logistic_slope(grad, x, <real> 2)


# The function for float16 and bfloat16 is correctly rounded for grad = 1. The tests check all
# 65,536 inputs of both types. `tanh` in float needs no separate function: its results are correctly
# rounded for these types.

cdef inline float tanh_backward_narrow(float grad, float x) noexcept nogil:
    """tanh_backward for a narrower type; the caller rounds the result to that type.

    This is `logistic_slope` without the steps that make it accurate to an ULP of float. The error of
    a few ULP of float is small enough, except where the result is close to a tie of the narrower
    type. For small x, 1 - x**2 is often a tie. The exact result is larger by 2 x**4 / 3, which is lost
    in float. Below 2**-6, x**2 is therefore multiplied by 1 - 2**-9. In addition, |2 x| is always
    shifted by 2**-24. This shift was found by experiment, and makes the result correct for all inputs
    of both types.
    """
    cdef float moved, before, after, scale, bend, y, slope, small
    cdef float one = 1
    moved = absolute(x) * 2 + <float> 5.960464477539063e-08    # never subnormal
    moved = <float> 215 if moved > 215 else moved
    small = fma(moved * <float> -0.24951171875, moved, one)
    y = narrow_reciprocal(moved, &before, &after, &scale, &bend)
    slope = y * y
    slope = fma(slope, bend, slope)
    # Near 0, `before` is 1.
    slope = small if absolute(x) < <float> 0.015625 else slope
    after = one if absolute(x) < <float> 0.015625 else after * 4
    slope = grad * before * slope * after
    return slope if x == x else x
