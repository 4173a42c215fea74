"""sigmoid, 1 / (1 + exp(-x)), and its gradients.

Method: a division by 1 + exp(-x), which is rounded once; the gradient by tanh of the reduced argument.
Error: float32 1.69 ULP (all inputs), gradients 2.49; float64 1.50, 2.11 (sampled); 16 bits correctly rounded.
Range: [0, 1], monotone; -inf gives +0, inf gives 1, NaN gives NaN; the gradient is 0 at the infinities.
"""

cimport cython

from fastact.activations.arithmetic cimport (
    absolute, fma, pass_nan, real, to_odd_float, with_sign,
)
from fastact.activations.exponential cimport (
    at_most, clip, exponential_to_float, one_plus, power_of_two, quotient, reduced,
    remainder, rounding, split_power, split_rounding, tiny_of, twice_tanh_of_half,
)


@cython.cdivision(True)
cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x)), including subnormal results.

    Numerator and denominator are scaled down by `one`, so that exp(-x) does not overflow, and the
    division alone rounds a subnormal result. The denominator is rounded once, too: see `one_plus`.
    """
    cdef real lowest, highest, one, round_at, moved, rounded, y
    if real is float:
        lowest, highest = <float> -104.5, 25
        one = <float> 9.313225746154785e-10                    # 2**-30
        round_at = rounding(-30, x)
    else:
        lowest, highest = -760, 40
        one = 2.938735877055719e-39                            # 2**-128
        round_at = rounding(-128, x)
    moved = clip(x, lowest, highest) + tiny_of(x)
    rounded = quotient(moved, round_at)
    y = one / one_plus(reduced(moved, rounded - round_at), power_of_two(rounded), one)
    return y if x == x else x


@cython.cdivision(True)
cdef inline real logistic_slope(real grad, real x, real factor) noexcept nogil:
    """grad * factor**2 * e / (1 + e)**2 with e = exp(-|factor * x|).

    This is the gradient of sigmoid for factor = 1, and of tanh(x) = 2 s(2 x) - 1 for factor = 2.
    Callers pass the factor as a constant, so the compiler removes products with 1.

    With e = 2**k (1 - T) / (1 + T), where T = tanh(r / 2) of the reduced argument r, it is

        factor**2 2**k (1 - T**2) / h**2,    h = (1 + e) (1 + T) = (1 - 2**k) T + 1 + 2**k.

    y (1 + t) is 1 / h, where y is rounded, and t is the residual of the division and of the rounding of h.
    So y**2 (1 + 2 t - T**2) is rounded once, besides y**2.

    factor**2 2**k is `before` times `after`. `grad` is first multiplied by `before` and by the rest, none
    of which is above 1, so nothing overflows. For factor = 2, the product with `after` can multiply the
    rounding error of a subnormal number by 4, so that results of less than four times the smallest normal
    number have up to 2 ULP more. Where both are zero, an infinite `grad` gives NaN, like infinity times zero.
    """
    cdef real size, rounded, twice, before, after, scale, u, h, y, t, square
    cdef real highest = 215 if real is float else 1500         # where `before` and `after` are zero
    cdef real one = 1, part = one / (factor * factor)          # a literal would be double in C
    size = at_most(absolute(x) * factor, highest) + tiny_of(x)
    rounded = quotient(size, split_rounding(x))
    twice = twice_tanh_of_half(reduced(size, rounded - split_rounding(x)))
    scale = split_power(rounded, factor * factor, &before, &after)
    u = fma(-scale, part * <real> 0.5, <real> 0.5)
    h = fma(u, twice, fma(scale, part, one))
    y = one / h
    t = fma(u, twice, fma(scale, part, one - h))
    t = fma(-t, y, fma(-h, y, one))
    square = y * y
    square = fma(square, fma(twice * <real> -0.25, twice, t + t), square)
    square = grad * before * square * after
    return square if x == x else x


cdef inline real sigmoid_backward(real grad, real x) noexcept nogil:
    """grad * s(x) * s(-x): see `logistic_slope`."""
    return logistic_slope(grad, x, <real> 1)


cdef inline real sigmoid_backward_from_output(real grad, real y) noexcept nogil:
    """grad * y * (1 - y), with y - y**2 rounded once: at most 1.5 ULP."""
    return grad * pass_nan(fma(-y, y, y), y)


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types.

@cython.cdivision(True)
cdef inline float sigmoid_narrow(float x) noexcept nogil:
    """sigmoid of a number of a narrower type; the caller rounds the result to that type.

    This is `sigmoid` with a shorter polynomial, without the second part of ln 2, and without what the sum of
    the powers loses. x is shifted by 2**-24: otherwise sigmoid(-0.1639) in float16 would be incorrect.

    For small x, 1/2 + x/4 is often a tie. sigmoid(x) is closer to 1/2 by x**3/48, which is lost in
    float. Below 2**-4, x is therefore multiplied by 1 - 2**-12. The two differences add up to less
    than 2**-16, and an x/4 that is not a tie is never closer to one than that. NaN takes this branch, too.
    """
    cdef float one = <float> 9.313225746154785e-10             # 2**-30
    cdef float moved, rounded, r, r2, p01, p23, scale, y
    moved = clip(x, <float> -104.5, <float> 25) - <float> 5.960464477539063e-08     # never subnormal
    rounded = quotient(moved, rounding(-30, x))
    r = remainder(moved, rounded - rounding(-30, x))
    r2 = r * r
    p01 = fma(r, <float> -0.16667114650028393, <float> 0.49999231495392864)
    p23 = fma(r, <float> -0.008312520140459853, <float> 0.041890156813028473)
    scale = power_of_two(rounded)
    y = one / fma(scale, fma(r2, fma(r2, p23, p01), -r), one + scale)
    return y if absolute(x) >= <float> 0.0625 else fma(x, <float> 0.24993896484375, <float> 0.5)


@cython.cdivision(True)
cdef inline float sigmoid_backward_narrow(float grad, float x) noexcept nogil:
    """sigmoid_backward for a narrower type; the caller rounds the result to that type.

    This is grad * e / (1 + e)**2 with e = exp(-|x|), in double. The error is less than 2**-33,
    and the result is rounded to odd, so that only one rounding follows. All 2**32 pairs of numbers of
    both types give the bits of the formula in double that is accurate to 1.35 ULP.

    Above |x| = 1489, the latter multiplies the gradient by zero.
    """
    cdef double size, clipped, e, y
    cdef float product
    size = absolute(x)
    clipped = <double> 215 if size > 215 else size
    e = exponential_to_float(clipped)
    y = 1 / (1 + e)
    grad = grad * (<float> 1 if absolute(x) < 1490 else <float> 0)
    product = to_odd_float(<double> grad * (e * (y * y)))
    return with_sign(product, grad)
