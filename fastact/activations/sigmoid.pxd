"""sigmoid, 1 / (1 + exp(-x)), and its gradients.

Method: a division by 1 + exp(-x) in two parts, corrected by its residual.
Error: float32 0.80 ULP (all inputs), gradients 1.49; float64 0.74, 1.29 (sampled); 16 bits correctly rounded.
Range: [0, 1], monotone; -inf gives +0, inf gives 1, NaN gives NaN; the gradient is 0 at the infinities.
"""

cimport cython

from fastact.activations.arithmetic cimport (
    absolute, fma, fma_of_any, pass_nan, real, to_odd_float, with_sign,
)
from fastact.activations.exponential cimport (
    exponential_to_float, half_range, inverse_of_sum, one_plus_exponential, power_of_two, quotient,
    reciprocal, reduce_argument, remainder, rounding, times_finite, tiny_of, without_nan,
)


cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x)), including subnormal results.

    The rounded reciprocal of 1 + exp(-x) is corrected once by its residual: see `inverse_of_sum`.

    Error: 0.5 ULP from the last rounding, and less than 0.22 from the exponential (P and
    the rounding of bend and low). The total is at most 0.71 ULP for normal results. Only the last
    product can be subnormal, and only then is the result rounded a second time: 0.80 ULP.
    """
    cdef real lowest, highest, round_at, shifted, rounded, r, bend, y, t
    if real is float:
        lowest, highest = -105, 25
        round_at = rounding(-75, x)
    else:
        lowest, highest = -746, 40
        round_at = rounding(-538, x)
    shifted = x + tiny_of(x)
    shifted = highest if shifted > highest else shifted
    rounded = quotient(shifted, round_at)
    r = reduce_argument(shifted, rounded - round_at, &bend)
    y = inverse_of_sum(power_of_two(without_nan(rounded)), r, bend, &t)
    y = fma(y, t, y)
    # Below `lowest`, the computation above is invalid and the result rounds to zero.
    return <real> 0 if x < lowest else pass_nan(y * half_range(x), shifted)


@cython.cdivision(True)
cdef inline real logistic_slope(real grad, real x, real factor) noexcept nogil:
    """grad * factor**2 * e / (1 + e)**2 with e = exp(-|factor * x|).

    This is the gradient of sigmoid for factor = 1, and of tanh(x) = 2 s(2 x) - 1 for factor = 2.
    Callers pass the factor as a constant, so the compiler removes products with 1.

    As in `sigmoid`, 1 / (1 + e) = y (1 + t), where t is the residual of the division.
    With y**2 = square + low and e = 2**k (1 - r + bend),

        e / (1 + e)**2 = 2**k (square + more),
        more = (bend - r) square + 2 t square (1 + bend - r) + low.

    The terms are multiplied by `grad` before the last sum, which an fma rounds only once.

    2**k is `before` times `after`. `grad` is first multiplied by `before`, which prevents overflow.
    The underflow of a small `grad` in this product causes an error of less than half an ULP of the
    result. Where both factors are zero, an infinite `grad` gives NaN, like infinity times zero.

    The multiplication by factor**2 must neither overflow nor amplify the rounding error of a
    subnormal number. It is therefore the first operation for |grad| < 1, and the last otherwise. If
    the factor is not 1, |grad| < 1 is also scaled up by a power of two until the last product, so
    that no intermediate result is subnormal.
    """
    cdef real size, before, after, scale, r, bend, whole, rest
    cdef real y, t, square, low, more, first, last, lift
    cdef real one = 1                                          # a literal would be double in C
    size = absolute(x) * factor + tiny_of(x)
    one_plus_exponential(size, &before, &after, &r, &bend, &scale, &whole, &rest)
    y = reciprocal(whole, rest, &t)
    square = y * y
    low = fma(y, y, -square)
    more = fma((t + t) * square, one + (bend - r), low)
    more = fma(-r, square, fma(bend, square, more))
    lift = one if factor == 1 else <real> 4294967296.0          # 2**32
    first = factor * factor * lift if absolute(grad) < one else one
    last = one / lift if absolute(grad) < one else factor * factor
    grad = grad * (before * first)
    more = fma_of_any(grad, square, times_finite(grad, more)) * (after * last)
    # The factors are positive, so the result has the sign of `grad`, even if it is zero.
    return with_sign(pass_nan(more, size), grad)


cdef inline real sigmoid_backward(real grad, real x) noexcept nogil:
    """grad * s(x) * s(-x): see `logistic_slope`."""
    return logistic_slope(grad, x, <real> 1)


cdef inline real sigmoid_backward_from_output(real grad, real y) noexcept nogil:
    """grad * y * (1 - y), with y - y**2 rounded once: at most 1.5 ULP."""
    return grad * pass_nan(fma(-y, y, y), y)


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types.

@cython.cdivision(True)
cdef inline float narrow_inverse_of_sum(float x, bint passes_nan) noexcept nogil:
    """2**75 / (1 + exp(-x)): `inverse_of_sum` without the steps that make it accurate to an ULP of float."""
    cdef float round_at = rounding(-75, x), one = half_range(x)
    cdef float rounded, r, t2, p01, p23, scale
    x = <float> 25 if x > 25 else x
    rounded = quotient(x, round_at)
    r = remainder(x, rounded - round_at)
    t2 = r * r
    p01 = fma(r, <float> -0.16667114650028393, <float> 0.49999231495392864)
    p23 = fma(r, <float> -0.008312520140459853, <float> 0.041890156813028473)
    scale = power_of_two(without_nan(rounded) if passes_nan else rounded)
    return <float> 1 / fma(scale, fma(t2, fma(t2, p23, p01), -r), one + scale)


cdef inline float sigmoid_narrow(float x) noexcept nogil:
    """sigmoid of a number of a narrower type; the caller rounds the result to that type.

    The error is up to 2.6 ULP above x = -10 and 5.2 ULP below. This is accurate enough, except where
    the result is close to a tie of the narrower type.

    For small x, 1/2 + x/4 is often a tie. sigmoid(x) is closer to 1/2 by x**3/48, which is lost in
    float. Below 2**-4, x is therefore multiplied by 1 - 2**-12. The two differences add up to less
    than 2**-16, and an x/4 that is not a tie is never closer to one than that. Elsewhere, x is shifted
    by 2**-24. Without the shift, sigmoid(-0.1639) in float16 would be the only incorrect result.
    """
    cdef float moved = x - <float> 5.960464477539063e-08       # never subnormal
    cdef float y = narrow_inverse_of_sum(moved, True) * half_range(x)
    y = <float> 0 if x < -105 else pass_nan(y, moved)
    return fma(x, <float> 0.24993896484375, <float> 0.5) if absolute(x) < <float> 0.0625 else y


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
