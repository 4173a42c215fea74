"""sigmoid and its gradients."""

cimport cython

from fastact.activations.arithmetic cimport (
    absolute, fma, fma_of_any, pass_nan, real, to_odd_float, with_sign,
)
from fastact.activations.exponential cimport (
    exponential_to_float, one_plus_exponential, power_of_two, quotient, reduce_argument, without_nan,
)


@cython.cdivision(True)
cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + exp(-x)), including subnormal results.

    With one = 2**-S and scale = one * 2**k, the denominator (1 + exp(-x)) 2**-S is
    one + scale + scale * (bend - r). It is represented as `whole + rest`, where each
    sum is split into its rounded value and the rounding error (Dekker's FastTwoSum).
    The rounded reciprocal y is corrected once by its residual 1 - y (whole + rest).

    Error: 0.5 ULP from the last rounding, and less than 0.22 from the exponential (P and
    the rounding of bend and low). The total is at most 0.71 ULP for normal results, and
    0.80 ULP for subnormal ones, because these are rounded twice. The bounds can be checked
    by `fastact check --exhaustive`.

    S is half of the exponent range of the results, so that the denominator and its
    reciprocal are normal numbers for every x. Only the last product can be subnormal,
    and only in that case is the result rounded a second time.
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
    # This changes the result by less than 2**-7 ULP. It keeps subnormal x out of all
    # products, because the processor handles subnormal numbers slowly.
    shifted = x + tiny
    shifted = highest if shifted > highest else shifted
    rounded = quotient(shifted, round_at)
    r = reduce_argument(shifted, rounded - round_at, &bend)
    scale = power_of_two(without_nan(rounded))
    powers = one + scale
    lost = one - (powers - scale)
    whole = fma(scale, bend - r, powers)
    rest = fma(scale, bend, fma(-scale, r, powers - whole)) + lost
    y = <real> 1 / whole
    y = fma(y, fma(-rest, y, fma(-whole, y, <real> 1)), y)
    # Below `lowest`, the computation above is invalid and the result rounds to zero.
    return <real> 0 if x < lowest else pass_nan(y * one, shifted)


@cython.cdivision(True)
cdef inline real logistic_slope(real grad, real x, real factor) noexcept nogil:
    """grad * factor**2 * e / (1 + e)**2 with e = exp(-|factor * x|).

    This is the gradient of sigmoid for factor = 1, and of tanh(x) = 2 s(2 x) - 1 for factor = 2.
    Callers pass the factor as a constant, so the compiler removes products with 1.

    As in `sigmoid`, 1 / (1 + e) = y (1 + t), where t is the residual of the division.
    With y**2 = square + low and e = 2**k (1 - r + bend),

        e / (1 + e)**2 = 2**k (square + more),
        more = (bend - r) square + 2 t square (1 + bend - r) + low.

    The terms are multiplied by `grad` before the last sum, which an fma rounds only once. Error:
    at most 1.10 ULP for grad = 1 in float, and 1.35 for the gradients sampled by `fastact check`.

    2**k is `before` times `after`. `grad` is first multiplied by `before`, which prevents overflow.
    The underflow of a small `grad` in this product causes an error of less than half an ULP of the
    result. Where both factors are zero, an infinite `grad` gives NaN, like infinity times zero.

    The multiplication by factor**2 must neither overflow nor amplify the rounding error of a
    subnormal number. It is therefore the first operation for |grad| < 1, and the last otherwise. If
    the factor is not 1, |grad| < 1 is also scaled up by a power of two until the last product, so
    that no intermediate result is subnormal.
    """
    cdef real tiny, largest, size, before, after, scale, r, bend, whole, rest
    cdef real y, t, square, low, more, first, last, lift
    cdef real zero = 0, one = 1                                # literals would be double in C
    if real is float:
        tiny = <float> 4.656612873077393e-10                   # 2**-31
        largest = <float> 3.4028234663852886e+38
    else:
        tiny = 8.673617379884035e-19                           # 2**-60
        largest = 1.7976931348623157e+308
    size = absolute(x) * factor + tiny
    one_plus_exponential(size, &before, &after, &r, &bend, &scale, &whole, &rest)
    y = one / whole
    t = fma(-rest, y, fma(-whole, y, one))
    square = y * y
    low = fma(y, y, -square)
    more = fma((t + t) * square, one + (bend - r), low)
    more = fma(-r, square, fma(bend, square, more))
    lift = one if factor == 1 else <real> 4294967296.0          # 2**32
    first = factor * factor * lift if absolute(grad) < one else one
    last = one / lift if absolute(grad) < one else factor * factor
    grad = grad * (before * first)
    # Avoid inf - inf, so that an infinite gradient remains infinite.
    more = grad * more if absolute(grad) <= largest else zero
    # The factors are positive, so the result has the sign of `grad`, even if it is zero.
    more = fma_of_any(grad, square, more) * (after * last)
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
cdef inline float sigmoid_narrow(float x) noexcept nogil:
    """sigmoid of a number of a narrower type; the caller rounds the result to that type.

    This is `sigmoid` without the steps that make it accurate to less than an ULP of float. The
    error is up to 2.6 ULP above x = -10 and 5.2 ULP below. This is accurate enough, except where
    the result is close to a tie of the narrower type.

    For small x, 1/2 + x/4 is often a tie. sigmoid(x) is closer to 1/2 by x**3/48, which is lost in
    float. Below 2**-4, x is therefore multiplied by 1 - 2**-12. The two differences add up to less
    than 2**-16, and an x/4 that is not a tie is never closer to one than that. Elsewhere, x is shifted
    by 2**-24. Without the shift, sigmoid(-0.1639) in float16 would be the only incorrect result.
    """
    cdef float one, round_at, moved, rounded, r, t2, p01, p23, scale, whole, y
    one = <float> 2.6469779601696886e-23                       # 2**-75
    round_at = <float> (12582912.0 + 127 - 75)                 # 1.5 * 2**23 + bias
    moved = x - <float> 5.960464477539063e-08                  # never subnormal
    moved = <float> 25 if moved > 25 else moved
    rounded = quotient(moved, round_at)
    r = fma(rounded - round_at, <float> 0.693147182464599609375, moved)
    t2 = r * r
    p01 = fma(r, <float> -0.16667114650028393, <float> 0.49999231495392864)
    p23 = fma(r, <float> -0.008312520140459853, <float> 0.041890156813028473)
    scale = power_of_two(without_nan(rounded))
    whole = fma(scale, fma(t2, fma(t2, p23, p01), -r), one + scale)
    y = <float> 1 / whole * one
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
