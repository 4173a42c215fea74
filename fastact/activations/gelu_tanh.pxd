"""gelu_tanh, the approximation of gelu by tanh, and its gradient.

Method: that of `silu` with a cubic of x, in two parts, in the exponential; the gradient of float in double.
Error: float32 1.77 ULP (all inputs), gradient 0.51; float64 0.57, 2.3 (sampled); 16 bits correctly rounded.
Range: [-0.171, inf]; -inf gives -0.0, inf gives inf, NaN gives NaN.

0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) is x times the sigmoid of

    v(x) = b (x + 0.044715 x**3),    b = 2 sqrt(2 / pi).

(Hendrycks and Gimpel 2016, "Gaussian Error Linear Units (GELUs)".) With t = |x| and e = exp(-v(t)),

    gelu_tanh(x) = max(x, 0) - t e / (1 + e),
    gelu_tanh'(x) = D(t) for x < 0, and 1 - D(t) for x >= 0, with D(t) = e (1 + e - t v'(t)) / (1 + e)**2.

The gradient of float is computed in double: no shorter form in float is known.
"""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, real, to_odd_float
from fastact.activations.exponential cimport (
    at_least, bend_of, clip, half_range, inverse_of_sum, power_of_two, power_ratio, quotient,
    remainder, remainder_low, rounding, tiny_of, twice_tanh_of_half, within,
)
from fastact.activations.gelu cimport (
    apart, half_of, narrow_half_of, positive_part, together, unless_nan,
)


@cython.cdivision(True)
cdef inline float gelu_tanh_in_float(float x) noexcept nogil:
    """gelu_tanh(x), including subnormal results: max(x, 0) - t e / (1 + e).

    e is a power of 2, and its exponent t (u + u_low), of which u is the rounded sum of `cubic`. `slope` has
    22 bits, so that slope - u is exact, and u_low has all errors. 1 + e = d + d_low, and the quotient is
    corrected by its exact residual. As in `gelu_in_float`, 2**k is multiplied by t, and 2**-32 by the
    rest. Where e is small, 2**-30 takes its place in the sum, which is 1.

    Below 2**-40, x / 2 is the result.
    """
    cdef float slope = <float> 2.3022079467773438, slope_low = <float> 2.513669699055754e-07
    cdef float cube = <float> 0.10294324159622192, cube_low = <float> -2.016198541454628e-09
    cdef float t, half, square, low, u, u_low, rounded, r, e, d, d_low, w, rest, base, scale
    cdef float p00, p01, p02, p03, unit = <float> 2.3283064365386963e-10               # 2**-32
    t = apart(x, <float> 9.094947017729282e-13, <float> 10.92, half_of(x), &half)      # 2**-40
    square = t * t
    low = fma(t, t, -square)
    u = fma(square, cube, slope)
    u_low = fma(square, cube, slope - u) + fma(low, cube, fma(square, cube_low, slope_low))
    rounded = fma(t, -u, rounding(32, x))
    r = fma(t, u_low, fma(t, u, rounded - rounding(32, x)))
    p03 = fma(r, <float> 3.567230468263724e-14, <float> -3.1176425915706296e-13)
    p02 = fma(r, p03, <float> 2.2394876751652415e-12)
    p01 = fma(r, p02, <float> -1.2922943964932543e-11)
    p00 = fma(r, p01, <float> 5.593208535215055e-11)
    e = fma(r, fma(r, p00, <float> -1.6138590464009894e-10), unit)
    scale = at_least(power_of_two(rounded), <float> 4)
    d = fma(e, scale, <float> 1)
    d_low = fma(e, scale, 1 - d)
    w = e / d
    rest = fma(-w, d_low, fma(-w, d, e)) / d
    base = <float> 0 if <float> 9.094947017729282e-13 > x else x
    t = t * power_of_two(rounded)
    return unless_nan(together(fma(-t, w, fma(-t, rest, base)), half), x)


@cython.cdivision(True)
cdef inline double gelu_tanh_slope_to_float(double x) noexcept nogil:
    """gelu_tanh'(x) for x that is a float.

    The exponential is that of double, since 1 + e - t v' suffers from cancellation near t = 0.7525. No
    float is closer to the zero than 2**-27, and the error there is less than 2**-50.
    """
    cdef double t, square, size, rounded, r, low, e, y, slope
    t = absolute(x)
    t = <double> 14.5 if t > 14.5 else t
    square = t * t
    size = t * fma(square, 0.07135481627260025, 1.5957691216057308)
    rounded = quotient(size, rounding(0, x))
    r = remainder(size, rounded - rounding(0, x))
    low = remainder_low(rounded - rounding(0, x))
    e = power_of_two(rounded)
    e = fma(e, bend_of(r + low, low) - r, e)
    y = 1 / (1 + e)
    slope = (1 - t * fma(square, 0.21406444881780073, 1.5957691216057308)) + e
    slope = e * y * (slope * y)
    return slope if x < 0 else 1 - slope


cdef inline double cubic(
    double x, double third, double third_low, double *low
) noexcept nogil:
    """x (b + third x**2) as a rounded number, which is returned, and `low`."""
    cdef double first = 1.5957691216057308, first_low = -9.96930880911092e-17
    cdef double square, square_low, term, term_low, total, back, result
    square = x * x
    square_low = fma(x, x, -square)
    term = third * square
    term_low = fma(third, square, -term) + fma(third, square_low, third_low * square)
    total = first + term
    back = total - first
    term_low += (first - (total - back)) + (term - back) + first_low      # Knuth's TwoSum
    result = x * total
    low[0] = fma(x, total, -result) + x * term_low
    return result


cdef inline double reduce_cubic(
    double x, double round_at, double *rounded, double *bend
) noexcept nogil:
    """exp(-v(x)) = 2**k (1 - r + bend), where r is returned, and k + round_at is `rounded`."""
    cdef double low, r, v = cubic(x, 0.07135481627260025, -6.175149918155315e-19, &low)
    rounded[0] = quotient(v, round_at)
    r = remainder(v, rounded[0] - round_at)
    low += remainder_low(rounded[0] - round_at)
    bend[0] = bend_of(r + low, low)
    return r


cdef inline double gelu_tanh_in_parts(double x) noexcept nogil:
    """x / (1 + exp(-v)), including subnormal results.

    This is `silu` with v in two parts in place of x. The result rounds to x above 8, and to -0.0
    below -22. If |x| is below 2**-60, it rounds to x / 2.
    """
    cdef double clipped, rounded, r, bend, y, t
    clipped = <double> 8 if x > 8 else x
    clipped = <double> -22 if clipped < -22 else clipped
    clipped = tiny_of(x) if absolute(clipped) < tiny_of(x) else clipped
    r = reduce_cubic(clipped, rounding(-538, x), &rounded, &bend)
    y = inverse_of_sum(power_of_two(rounded), r, bend, &t)
    return within(fma(clipped, y, clipped * y * t) * half_range(x), x, x, -22, 8)


@cython.cdivision(True)
cdef inline double gelu_tanh_backward_in_parts(double grad, double x) noexcept nogil:
    """grad * gelu_tanh'(x).

    As in `silu_backward`, with v in two parts in the exponential and w = t v' in two parts in place of t,

        D(t) = q (1 - w (1 - q)),    q = s(-v) in two parts.

    `first` has 47 bits, so that the difference of it and a sum below 64 is exact. Errors are in ULP of the
    terms: the difference cancels at -0.7524614..., the zero of the derivative. 2**k is at least 2**-900 in
    the quotient. `grad` is multiplied by what is below that. This is 0 below -28.4, where an infinite `grad`
    gives NaN, like infinity times zero.
    """
    cdef double first = 1.595769121605727, first_low = 3.675065195634423e-15
    cdef double third = 0.07135481627260025, third_low = -6.175149918155315e-19, thrice = 0.21406444881780073
    cdef double one = 1, half = 0.5, size, square, square_low, f, f_low, v, v_low, w, w_low
    cdef double round_at = rounding(0, x), rounded, least, k, r, scale, u, twice, h, y, q, q_low, n, more
    size = at_least(absolute(clip(x, <double> -28.445, <double> 8)), tiny_of(x))
    square = size * size
    square_low = fma(size, size, -square)
    f = fma(third, square, first)
    f_low = fma(third, square_low, fma(third_low, square, first_low)) + fma(third, square, first - f)
    v = size * f
    v_low = fma(size, f_low, fma(size, f, -v))
    rounded = quotient(v, round_at)
    least = at_least(rounded, round_at - 900)
    k = rounded - round_at
    r = remainder(v, k) + (remainder_low(k) + v_low)
    scale = power_of_two(least)
    twice = twice_tanh_of_half(r)
    u = fma(-scale, half, half)
    h = fma(u, twice, one + scale)
    y = one / h
    more = fma(u, twice, (one - h) + scale)
    more = fma(-half, twice, fma(-more, y, fma(-h, y, one)))
    q = fma(y, more, y)
    q_low = scale * fma(y, more, y - q)
    q *= scale
    f = fma(thrice, square, first)
    f_low = fma(thrice, square_low, fma(thrice, square, first - f)) + first_low
    w = size * f
    w_low = fma(size, f_low, fma(size, f, -w))
    n = fma(w, q, one - w)
    more = fma(w, q, (one - w) - n) - w_low * (one - q)
    n = fma(q, n, fma(q_low, n, q * more))
    n = n if x < 0 else one - n
    grad = grad * power_ratio(rounded, least) * n
    return grad if x == x else x


cdef inline real gelu_tanh(real x) noexcept nogil:
    """max(x, 0) - t e / (1 + e): see above."""
    if real is float:
        return gelu_tanh_in_float(x)
    else:
        return gelu_tanh_in_parts(x)


cdef inline real gelu_tanh_backward(real grad, real x) noexcept nogil:
    """grad * gelu_tanh'(x): see above."""
    if real is float:
        return unless_nan(<float> (grad * gelu_tanh_slope_to_float(x)), x)
    else:
        return gelu_tanh_backward_in_parts(grad, x)


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types.

@cython.cdivision(True)
cdef inline float gelu_tanh_narrow(float x) noexcept nogil:
    """gelu_tanh of a number of a narrower type; the caller rounds the result to that type.

    As `gelu_tanh_in_float`, without what makes that accurate to an ULP of float. As in `gelu_narrow`, the
    coefficients are those that `tests/ties.py` finds.
    """
    cdef float t, half, u, rounded, r, scale, e00, e01, e02, e03, e04
    t = apart(x, <float> 1.4901161193847656e-08, <float> 10.92, narrow_half_of(x), &half)
    u = fma(t * t, <float> 0.10294324904680252, <float> 2.302208423614502)
    rounded = fma(t, -u, rounding(32, x))
    r = fma(t, u, rounded - rounding(32, x))
    e04 = fma(r, <float> -3.0911682718723354e-13, <float> 2.2527628634055885e-12)
    e03 = fma(r, e04, <float> -1.2923757550242776e-11)
    e02 = fma(r, e03, <float> 5.5930867576270415e-11)
    e01 = fma(r, e02, <float> -1.613858213733721e-10)
    e00 = fma(r, e01, <float> 2.3283067140944524e-10)
    scale = power_of_two(rounded)
    e00 = e00 / fma(e00, scale, <float> 1)
    return unless_nan(together(fma(-(t * scale), e00, positive_part(x)), half), x)


cdef inline float gelu_tanh_backward_narrow(float grad, float x) noexcept nogil:
    """gelu_tanh_backward for a narrower type; the caller rounds the result to that type."""
    return unless_nan(<float> to_odd_float(grad * gelu_tanh_slope_to_float(x)), x)
