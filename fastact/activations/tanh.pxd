"""tanh and its gradient.

Method: 2 / (1 + exp(-2 |x|)) - 1 with the sum in two parts; a polynomial below |x| = 0.55.
Error: float32 0.83 ULP (all inputs), gradient 1.35; float64 0.80, 1.37 (sampled); 16 bits correctly rounded.
Range: [-1, 1], monotone; x itself near 0, NaN gives NaN; the gradient is 0 at the infinities.
"""

from fastact.activations.arithmetic cimport absolute, fma, real, with_sign
from fastact.activations.exponential cimport (
    bend_of, narrow_reciprocal, power_of_two, quotient, reciprocal, remainder, remainder_low, rounding,
)
from fastact.activations.sigmoid cimport logistic_slope


cdef inline real tanh_near_zero(real x) noexcept nogil:
    """tanh(x) = x + x**3 P(x**2), for |x| below `limit` in `tanh`.

    P is the minimax polynomial for the error relative to tanh(x) on |x| <= 0.55, which is 2**-29.8
    in float and 2**-60.6 in double (`tests/minimax.py`).
    """
    cdef real z = x * x, z2 = z * z, z4, p01, p23, p45, p67, p89
    # Estrin's scheme, for short dependency chains.
    if real is float:
        p01 = fma(z, <float> 0.13332585990428925, <float> -0.33333316445350647)
        p23 = fma(z, <float> 0.021071679890155792, <float> -0.05385230854153633)
        p23 = fma(z2, <float> -0.0062742396257817745, p23)
        p01 = fma(z2, p23, p01)
    else:
        z4 = z2 * z2
        p01 = fma(z, 0.13333333333326622, -0.333333333333333)
        p23 = fma(z, 0.021869488385855226, -0.05396825396376058)
        p45 = fma(z, 0.003592092030372331, -0.008863232601433433)
        p67 = fma(z, 0.0005884444851379482, -0.001455542845422299)
        p89 = fma(z, 8.33164452536991e-05, -0.00023338156320787797)
        p89 = fma(z2, -1.9494686615704736e-05, p89)
        p01 = fma(z2, p23, p01)
        p45 = fma(z2, p67, p45)
        p45 = fma(z4, p89, p45)
        p01 = fma(z4, p45, p01)
    return fma(x * z, p01, x)


cdef inline real tanh(real x) noexcept nogil:
    """(1 - e) / (1 + e) = 2 / (1 + e) - 1 with e = exp(-2 |x|), and the sign of x.

    Near 0 the difference would lose digits, so a polynomial is used instead. Below `lowest` the
    result rounds to x. There x is also kept out of the computation, because the processor handles
    subnormal numbers slowly.

    Elsewhere e is at most 1/3. 1 + e is represented as `whole + rest`, which is as accurate as e.
    y = 1 / whole has the residual t = 1 - y (whole + rest), so 2 / (1 + e) is 2 y + 2 y t. Since y is
    in [1/2, 1], 2 y - 1 is exact, and only the rounding of the last sum is significant.

    The error is largest just below `limit`, where it comes from the rounding of x**3 P. Above `limit` it
    is at most 0.6 ULP in float.
    """
    cdef real lowest, limit, highest, size, clipped, twice, rounded, k, r, bend, scale
    cdef real whole, rest, y, t, far, result
    cdef real one = 1                                          # a literal would be double in C
    if real is float:
        lowest = <float> 1.220703125e-4                        # 2**-13
        limit = <float> 0.55
        highest = <float> 9.5
    else:
        lowest = 3.725290298461914e-09                         # 2**-28
        limit = 0.55
        highest = 20
    size = absolute(x)
    clipped = highest if size > highest else size              # tanh rounds to 1 above `highest`
    clipped = lowest if clipped < lowest else clipped
    twice = clipped + clipped
    rounded = quotient(twice, rounding(0, x))
    k = rounded - rounding(0, x)
    r = remainder(twice, k)
    # In float, omitting the second part of the reduced argument changes the result by only 0.03 ULP.
    if real is double:
        r += remainder_low(k)
    bend = bend_of(r, <real> 0)
    scale = power_of_two(rounded)
    whole = fma(scale, bend - r, one + scale)
    rest = fma(scale, bend - r, scale - (whole - one))
    y = reciprocal(whole, rest, &t)
    y = y + y
    far = fma(y, t, y - one)
    result = tanh_near_zero(clipped) if clipped < limit else far
    # NaN takes the last branch, which preserves its bits.
    return with_sign(result if size >= lowest else size, x)


cdef inline real tanh_backward(real grad, real x) noexcept nogil:
    """grad * (1 - tanh(x)**2) = grad * 4 e / (1 + e)**2: see `logistic_slope`."""
    cdef real result = logistic_slope(grad, x, <real> 2)
    return result if x == x else x


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
