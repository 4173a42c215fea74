"""silu, x * sigmoid(x), and its gradient.

Method: that of `sigmoid`, with x as numerator; the gradient by tanh of the reduced argument.
Error: float32 1.80 ULP (all inputs), gradient 2.83; float64 1.48, 2.12 (sampled); 16 bits correctly rounded.
Range: [-0.279, inf]; -inf gives -0.0, inf gives inf, NaN gives NaN.
"""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, fma_of_any, real, with_sign
from fastact.activations.exponential cimport (
    at_most, clip, narrow_reciprocal, one_plus, power_of_two, quotient, reduced,
    rounding, split_power, split_rounding, tiny_of, twice_tanh_of_half,
)


@cython.cdivision(True)
cdef inline real silu(real x) noexcept nogil:
    """x / (1 + exp(-x)), including subnormal results.

    This is `sigmoid` with x as numerator, which is not scaled. So the last product can be subnormal, and
    is then rounded a second time.
    """
    cdef real lowest, highest, one, round_at, low, moved, rounded
    if real is float:
        lowest, highest = -110, 25
        one = <float> 9.094947017729282e-13                    # 2**-40
        round_at = rounding(-40, x)
    else:
        lowest, highest = -760, 40
        one = 2.938735877055719e-39                            # 2**-128
        round_at = rounding(-128, x)
    low = clip(x, lowest, highest)
    moved = low + tiny_of(x)
    rounded = quotient(moved, round_at)
    low = low / one_plus(reduced(moved, rounded - round_at), power_of_two(rounded), one) * one
    # NaN takes the last branch, which preserves its bits.
    return low if x <= highest else x


@cython.cdivision(True)
cdef inline real silu_backward(real grad, real x) noexcept nogil:
    """grad * silu'(x) = grad * s(x) * (1 + x * s(-x)).

    With a = |x| and q = s(-a) = 2**k y (1 - T), where y and T are those of `logistic_slope`, it is

        c = q (1 - a + a q) for x < 0,    1 - c for x >= 0.

    Above 0, 1/4 of the gradient is added last, in an fma, so that 3/4 - c is rounded by less than the sum.
    Errors are in ULP of the terms: the difference cancels at -1.2784645..., the zero of silu'.

    An infinite `grad` gives an infinite result, except where 2**k is zero, below about x = -207 (-1490).
    There it gives NaN, like infinity times zero.
    """
    cdef real a, rounded, twice, before, after, scale, u, h, y, t, part, q, n, base
    cdef real highest = 215 if real is float else 1500         # where `before` and `after` are zero
    cdef real one = 1, half = <real> 0.5                       # literals would be double in C
    a = at_most(absolute(x), highest) + tiny_of(x)
    rounded = quotient(a, split_rounding(x))
    twice = twice_tanh_of_half(reduced(a, rounded - split_rounding(x)))
    scale = split_power(rounded, one, &before, &after)
    u = fma(-scale, half, half)
    h = fma(u, twice, one + scale)
    y = one / h
    t = fma(u, twice, (one - h) + scale)
    t = fma(-t, y, fma(-h, y, one))
    part = fma(y, fma(twice, -half, t), y)                     # q / 2**k
    q = scale * part
    n = fma(a, q, one - a)
    t = fma(a, q, (one - a) - n)
    part = fma(part, n, part * t)
    before = before if x < 0 else one
    after = after if x < 0 else one
    grad = grad * before
    base = <real> -0.0 if x < 0 else grad * <real> 0.25
    part = part if x < 0 else <real> 0.75 - scale * part
    grad = fma_of_any(grad, part, base) * after
    return grad if x == x else x


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types. The shifts in `moved` were found by experiment.

cdef inline float silu_narrow(float x) noexcept nogil:
    """silu of a number of a narrower type; the caller rounds the result to that type.

    Half of a subnormal number can be a tie. The result is x / 2 + x**2 / 4, which is above it, by enough
    to be seen in a subnormal float.
    """
    return with_sign(silu(x) + <float> 1.401298464324817e-45, x)         # 2**-149


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
