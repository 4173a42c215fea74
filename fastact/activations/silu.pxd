"""silu, x * sigmoid(x), and its gradient.

Method: that of `sigmoid`, times x before the last rounding; the gradient by a polynomial near its zero.
Error: float32 0.83 ULP (all inputs), gradient 1.34; float64 0.78, 1.33 (sampled); 16 bits correctly rounded.
Range: [-0.279, inf]; -inf gives -0.0, inf gives inf, NaN gives NaN.
"""

from fastact.activations.arithmetic cimport absolute, fma, real, with_sign
from fastact.activations.exponential cimport (
    half_range, inverse_of_sum, narrow_reciprocal, on_the_left, one_plus_exponential, power_of_two,
    quotient, reciprocal, reduce_argument, rounding, signed_gradient, tiny_of, within,
)
from fastact.activations.sigmoid cimport narrow_inverse_of_sum


cdef inline real silu(real x) noexcept nogil:
    """x / (1 + exp(-x)), including subnormal results.

    This is computed like `sigmoid`, but y is multiplied by x before it is corrected by its residual
    t. The sum x y + x y t is rounded once, in an fma, so the product adds no rounding error to that of
    `sigmoid`. The error is largest where the result is subnormal and rounded a second time.
    """
    cdef real lowest, highest, round_at, shifted, clipped, rounded, r, bend, y, t, factor
    if real is float:
        lowest, highest = -110, 25
        round_at = rounding(-75, x)
    else:
        lowest, highest = -753, 40
        round_at = rounding(-538, x)
    shifted = x + tiny_of(x)
    clipped = highest if shifted > highest else shifted
    rounded = quotient(clipped, round_at)
    r = reduce_argument(clipped, rounded - round_at, &bend)
    y = inverse_of_sum(power_of_two(rounded), r, bend, &t)
    factor = shifted if absolute(x) < tiny_of(x) else x
    return within(fma(factor, y, factor * y * t) * half_range(x), x, shifted, lowest, highest)


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


cdef inline real quotient_slope(
    real x, real y, real t, real whole, real rest, real term, real r, real bend,
    real *before, real *after, real *more
) noexcept nogil:
    """The derivative of x / (1 + e) is before (q + more) after, where q is returned.

    The numerator is n + rest = whole + rest + term, where the first sum is split into its rounded value
    and the rounding error (Knuth's TwoSum). With 1 / (1 + e) = y (1 + t), y**2 = square + low and
    q = n square, the errors of all products are accumulated in `more`. See `on_the_left` for the rest.
    """
    cdef real square = y * y, low = fma(y, y, -square)
    cdef real n = whole + term, back = n - whole, q
    rest += (whole - (n - back)) + (term - back)
    q = n * square
    more[0] = fma(n, fma(t + t, square, low), fma(n, square, -q))
    more[0] = on_the_left(x, r, bend, q, fma(rest, square, more[0]), before, after)
    return q


cdef inline real silu_backward(real grad, real x) noexcept nogil:
    """grad * silu'(x) = grad * s(x) * (1 + x * s(-x)).

    With e = exp(-|x|), the derivative is

        (1 + e + x e) / (1 + e)**2 for x >= 0,    e (1 + e + x) / (1 + e)**2 for x < 0.

    Both are computed by `quotient_slope`, with x e or x as `term`.

    The derivative is 0 at -z = -1.2784645..., where 1 + e + x suffers from cancellation, since its
    terms have an error of 2**-30. Within 1/8 of the zero, a polynomial in x + z is used instead. z
    is represented by two numbers, so that x + z = t + low is accurate to the last bit near the zero.
    k is -2 there, so the polynomial includes a factor of 4.

    An infinite `grad` gives an infinite result, except where 2**k is zero, below about x = -207 (-1490).
    There it gives NaN, like infinity times zero.
    """
    cdef real zero_high, zero_low, clipped, before, after, scale, r, bend, whole, rest, y, t, term
    cdef real back, q, more, near, near_more
    if real is float:
        zero_high, zero_low = <float> 1.2784645557403564, <float> -1.2979282537628478e-08
    else:
        zero_high, zero_low = 1.2784645427610737, 1.0946994183093437e-16
    clipped = one_plus_exponential(
        absolute(x) + tiny_of(x), &before, &after, &r, &bend, &scale, &whole, &rest
    )
    y = reciprocal(whole, rest, &t)
    term = clipped * scale
    term = fma(term, bend - r, term)
    term = -clipped if x < 0 else term
    q = quotient_slope(x, y, t, whole, rest, term, r, bend, &before, &after, &more)
    # Near the zero of the derivative.
    back = x + zero_high
    t = back + zero_low
    near = silu_slope_near_zero(t, (back - t) + zero_low, &near_more)
    q = near if absolute(t) < <real> 0.125 else q
    more = near_more if absolute(t) < <real> 0.125 else more
    return signed_gradient(grad, x, before, after, q, more)


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types. The shifts in `moved` were found by experiment.

cdef inline float silu_narrow(float x) noexcept nogil:
    """silu of a number of a narrower type; the caller rounds the result to that type.

    Near 0 the result is x/2 + x**2/4, with the second term
    raised to at least 2**-15 |x|. Half of a subnormal number can be a tie, and the sum in float must
    remain above it.
    """
    cdef float moved = x - <float> 1.4156103134155273e-07      # 19 * 2**-27; never subnormal
    cdef float y = x * narrow_inverse_of_sum(moved, False) * half_range(x)
    cdef float size = absolute(x), near = size * <float> 0.25
    y = y if x >= -110 else <float> -0.0
    near = <float> 3.0517578125e-05 if near < <float> 3.0517578125e-05 else near
    near = with_sign(fma(size, near, x * <float> 0.5), x)
    y = near if size < <float> 0.015625 else y
    # NaN takes the last branch, which preserves its bits.
    return y if moved < 25 else x


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
    cdef float moved, before, after, scale, bend, y, n, slope
    cdef float one = 1, nearly_one
    moved = absolute(x) + <float> 1.4901161193847656e-08       # 2**-26; never subnormal
    moved = <float> 215 if moved > 215 else moved
    y = narrow_reciprocal(moved, &before, &after, &scale, &bend)
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
