"""silu, x * sigmoid(x), and its gradient."""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, fma_of_any, real, with_sign
from fastact.activations.exponential cimport (
    bend_of, one_plus_exponential, power_of_two, quotient, reduce_argument, remainder,
)


@cython.cdivision(True)
cdef inline real silu(real x) noexcept nogil:
    """x / (1 + exp(-x)), including subnormal results.

    This is computed like `sigmoid`, but y is multiplied by x before it is corrected by its residual
    t. The sum x y + x y t is rounded once, in an fma, so the product adds no rounding error to that of
    `sigmoid`. Error: at most 0.83 ULP in float over all inputs, reached where the result is subnormal
    and rounded a second time by the last product; 0.78 ULP in double over the sampled inputs.

    The result rounds to x above `highest`, and to -0.0 below `lowest`. If |x| is below `tiny`, it
    rounds to x / 2. In that case x is kept out of the other products, because the processor handles
    subnormal numbers slowly.
    """
    cdef real tiny, lowest, highest, one, round_at, shifted, clipped, rounded, r, bend, scale
    cdef real powers, lost, whole, rest, y, t, result, factor
    if real is float:
        tiny = <float> 4.656612873077393e-10                   # 2**-31
        lowest, highest = -110, 25
        one = <float> 2.6469779601696886e-23                   # 2**-75
        round_at = <float> (12582912.0 + 127 - 75)             # 1.5 * 2**23 + bias
    else:
        tiny = 8.673617379884035e-19                           # 2**-60
        lowest, highest = -753, 40
        one = 1.1113793747425387e-162                          # 2**-538
        round_at = 6755399441055744.0 + 1023 - 538             # 1.5 * 2**52 + bias
    # This changes the sigmoid by less than 2**-7 ULP, and keeps subnormal x out of the exponential.
    shifted = x + tiny
    clipped = highest if shifted > highest else shifted
    rounded = quotient(clipped, round_at)
    r = reduce_argument(clipped, rounded - round_at, &bend)
    scale = power_of_two(rounded)
    powers = one + scale
    lost = one - (powers - scale)
    whole = fma(scale, bend - r, powers)
    rest = fma(scale, bend, fma(-scale, r, powers - whole)) + lost
    y = <real> 1 / whole
    t = fma(-rest, y, fma(-whole, y, <real> 1))
    factor = shifted if absolute(x) < tiny else x
    result = fma(factor, y, factor * y * t) * one
    result = x * <real> 0.5 if absolute(x) < tiny else result
    result = result if x >= lowest else <real> -0.0
    # NaN takes the last branch, which preserves its bits.
    return result if shifted <= highest else x


cdef inline real silu_slope_near_zero(real t, real low, real *more) noexcept nogil:
    """4 silu'(t + low - z) = (t + low) P(t + low) for |t| < 1/8; the return value plus `more`.

    -z = -1.2784645... is the zero of silu'. P is the minimax polynomial for the relative error, which
    is 2**-29.5 in float and 2**-59.5 in double (`tests/minimax.py`). Only the product with its first
    coefficient is represented by two numbers, because the other terms are small.
    """
    cdef real first, product, t2, t4, t8, p01, p23, p45, p67, p89
    t2 = t * t
    if real is float:
        first = <float> 0.8712468147277832
        p01 = fma(t, <float> 0.07549869269132614, <float> 0.5865951776504517)
        p23 = fma(t, <float> -0.026343196630477905, <float> -0.060880668461322784)
        p01 = fma(t2, p23, p01)
    else:
        t4 = t2 * t2
        t8 = t4 * t4
        first = 0.8712468228792004
        p01 = fma(t, 0.07549925689512915, 0.5865951879877876)
        p23 = fma(t, -0.026426356553403477, -0.06089062089287216)
        p45 = fma(t, 0.003194087531044136, 0.000506509683353236)
        p67 = fma(t, -0.0001636227898046729, 0.0007428226785601121)
        p89 = fma(t, -1.1645687950874818e-05, -0.00011853113244142554)
        p01 = fma(t2, p23, p01)
        p45 = fma(t2, p67, p45)
        p01 = fma(t4, p45, p01)
        p01 = fma(t8, p89, p01)
    product = t * first
    more[0] = fma(t2, p01, fma(low, first, fma(t, first, -product)))
    return product


@cython.cdivision(True)
cdef inline real silu_backward(real grad, real x) noexcept nogil:
    """grad * silu'(x) = grad * s(x) * (1 + x * s(-x)).

    With e = exp(-|x|), the derivative is

        (1 + e + x e) / (1 + e)**2 for x >= 0,    e (1 + e + x) / (1 + e)**2 for x < 0.

    As in `sigmoid`, 1 + e = whole + rest and 1 / (1 + e) = y (1 + t). Also, y**2 = square + low.
    The numerator in parentheses is n + rest: the sum of `whole` and x e, or x, is split into its
    rounded value and the rounding error (Knuth's TwoSum). With q = n square, the errors of all
    products are accumulated in `more`, and the terms are multiplied by `grad` before the last sum,
    as in `logistic_slope`. For negative x, the factor 2**k of e = 2**k (1 - r + bend) is split into
    `before` and `after`. For positive x, both are 1.

    The derivative is 0 at -z = -1.2784645..., where 1 + e + x suffers from cancellation, since its
    terms have an error of 2**-30. Within 1/8 of the zero, a polynomial in x + z is used instead. z
    is represented by two numbers, so that x + z = t + low is accurate to the last bit near the zero.
    k is -2 there, so the polynomial includes a factor of 4.

    Error in float: at most 1.08 ULP for grad = 1 over all inputs, and 1.34 ULP for sampled gradients.
    In double: 1.26 and 1.33 ULP over samples. An infinite `grad` gives an infinite result, except
    where 2**k is zero, below about x = -207 (-1490). There it gives NaN, like infinity times zero.
    """
    cdef real tiny, largest, zero_high, zero_low, clipped, before, after, scale, r, bend
    cdef real whole, rest, y, t, square, low, n, term, back, q, more, near, near_more
    cdef real zero = 0, one = 1                                # literals would be double in C
    if real is float:
        tiny = <float> 4.656612873077393e-10                   # 2**-31
        largest = <float> 3.4028234663852886e+38
        zero_high, zero_low = <float> 1.2784645557403564, <float> -1.2979282537628478e-08
    else:
        tiny = 8.673617379884035e-19                           # 2**-60
        largest = 1.7976931348623157e+308
        zero_high, zero_low = 1.2784645427610737, 1.0946994183093437e-16
    clipped = one_plus_exponential(
        absolute(x) + tiny, &before, &after, &r, &bend, &scale, &whole, &rest
    )
    y = one / whole
    t = fma(-rest, y, fma(-whole, y, one))
    square = y * y
    low = fma(y, y, -square)
    # The numerator, n + rest.
    term = clipped * scale
    term = fma(term, bend - r, term)
    term = -clipped if x < 0 else term
    n = whole + term
    back = n - whole
    rest += (whole - (n - back)) + (term - back)
    q = n * square
    more = fma(n, fma(t + t, square, low), fma(n, square, -q))
    more = fma(rest, square, more)
    # The factor e, for negative x only.
    before = before if x < 0 else one
    after = after if x < 0 else one
    r = r if x < 0 else zero
    bend = bend if x < 0 else zero
    more = fma(bend - r, more, more)
    more = fma(-r, q, fma(bend, q, more))
    # Near the zero of the derivative.
    back = x + zero_high
    t = back + zero_low
    near = silu_slope_near_zero(t, (back - t) + zero_low, &near_more)
    q = near if absolute(t) < <real> 0.125 else q
    more = near_more if absolute(t) < <real> 0.125 else more
    # `term` has the sign of the result, even if the result is zero.
    term = grad * q
    grad = grad * before
    # Avoid inf - inf, so that an infinite gradient remains infinite.
    more = grad * more if absolute(grad) <= largest else zero
    more = with_sign(fma_of_any(grad, q, more) * after, term)
    return more if x == x else x


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types. The shifts in `moved` were found by experiment.

@cython.cdivision(True)
cdef inline float silu_narrow(float x) noexcept nogil:
    """silu of a number of a narrower type; the caller rounds the result to that type.

    This is computed like `sigmoid_narrow`. Near 0 the result is x/2 + x**2/4, with the second term
    raised to at least 2**-15 |x|. Half of a subnormal number can be a tie, and the sum in float must
    remain above it.
    """
    cdef float one, round_at, moved, clipped, rounded, r, t2, p01, p23, scale, y, size, near
    one = <float> 2.6469779601696886e-23                       # 2**-75
    round_at = <float> (12582912.0 + 127 - 75)                 # 1.5 * 2**23 + bias
    moved = x - <float> 1.4156103134155273e-07                 # 19 * 2**-27; never subnormal
    clipped = <float> 25 if moved > 25 else moved
    rounded = quotient(clipped, round_at)
    r = remainder(clipped, rounded - round_at)
    # The same polynomial as in `sigmoid_narrow`.
    t2 = r * r
    p01 = fma(r, <float> -0.16667114650028393, <float> 0.49999231495392864)
    p23 = fma(r, <float> -0.008312520140459853, <float> 0.041890156813028473)
    scale = power_of_two(rounded)
    y = x * (<float> 1 / fma(scale, fma(t2, fma(t2, p23, p01), -r), one + scale)) * one
    y = y if x >= -110 else <float> -0.0
    size = absolute(x)
    near = size * <float> 0.25
    near = <float> 3.0517578125e-05 if near < <float> 3.0517578125e-05 else near
    near = with_sign(fma(size, near, x * <float> 0.5), x)
    y = near if size < <float> 0.015625 else y
    # NaN takes the last branch, which preserves its bits.
    return y if moved < 25 else x


@cython.cdivision(True)
cdef inline float silu_backward_narrow(float grad, float x) noexcept nogil:
    """silu_backward for a narrower type; the caller rounds the result to that type.

    This is `silu_backward` without the steps that make it accurate to an ULP of float. Near the zero
    of the derivative, 1 + x is exact, and no number of a narrower type is very close to that zero.
    The closest one is the float16 -1.2783203125, which 1.4e-4 separates from the zero.
    For |x| < 2**-7 the result is 1/2 + x/2, which is often a tie. It is shifted toward 1/2, where
    the exact value lies, by less than the distance to the next tie. Elsewhere, ties are resolved by
    using 1 - 2**-24 instead of 1, and by adding 2**-26 to |x|. At -1.2783203125, where 2**-24 is too
    much of the small difference, 1 remains 1.
    """
    cdef float minute, round_at, moved, rounded, k, part, before, after, scale, r, bend, y, n, slope
    cdef float one = 1, nearly_one
    minute = <float> 5.421010862427522e-20                     # 2**-64
    round_at = <float> (12582912.0 + 127 + 64)                 # 1.5 * 2**23 + biases
    moved = absolute(x) + <float> 1.4901161193847656e-08       # 2**-26; never subnormal
    moved = <float> 215 if moved > 215 else moved
    rounded = quotient(moved, round_at)
    k = rounded - round_at
    r = remainder(moved, k)
    bend = bend_of(r, <float> 0) - r
    part = fma(k, <float> 0.5, round_at)
    before = power_of_two(part) * minute
    after = power_of_two(rounded - (part - round_at)) * minute
    scale = before * after
    y = one / fma(scale, bend, one + scale)
    n = fma(moved, fma(scale, bend, scale), fma(scale, bend, one + scale))
    nearly_one = one if x == <float> -1.2783203125 else <float> 0.999999940395355225
    n = fma(scale, bend, (nearly_one - moved) + scale) if x < 0 else n
    slope = n * (y * y)
    slope = fma(slope, bend, slope) if x < 0 else slope
    slope = fma(x, <float> 0.499755859375, <float> 0.5) if absolute(x) < <float> 0.0078125 else slope
    before = before if x < 0 else one
    after = after if x < 0 else one
    slope = grad * before * slope * after
    return slope if x == x else x
