"""gelu, x times the probability that a normal variable is below x, and its gradient.

Method: exp(-x**2 / 2) times a quotient of polynomials in |x|; in double, a polynomial in (t - 4) / (t + 4).
Error: float32 1.99 ULP (all inputs), gradient 2.05; float64 1.16, 1.1 (sampled); 16 bits correctly rounded.
Range: [-0.170, inf]; -inf gives -0.0, inf gives inf, NaN gives NaN.

With t = |x| and Q(t), the probability that a normal variable is above t,

    gelu(x) = max(x, 0) - t Q(t),
    gelu'(x) = D(t) for x < 0, and 1 - D(t) for x >= 0, with D(t) = Q(t) - t exp(-t**2 / 2) / sqrt(2 pi).

Both tails are in Q and D, which have the factor exp(-t**2 / 2). What remains of them varies slowly. In
double it is a polynomial in w = (t - 4) / (t + 4), a variable that makes a polynomial good up to large t
(Shepherd and Laframboise 1981, "Chebyshev approximation of (1 + 2x) exp(x**2) erfc x in 0 <= x < infinity"):

    Q(t) = exp(-t**2 / 2) P(w) / (t + 4),
    D(t) = exp(-t**2 / 2) (z - t) P(w),

where z = 0.7517915... is the zero of D. Since z - t is a factor, D is accurate near its zero, too. In
float there are quotients of polynomials of degree 4, so placed that their rounding errors count little:

    Q(t) = exp(-t**2 / 2) C / (t + 0.734375 + N(t) / M(t)),    where N / M is at most 0.16 of the sum,
    D(t) = exp(-t**2 / 2) (z - t) (1 + N(t) / M(t)) / 2,       where N / M is at most 1/3.

All of these are minimax approximations for the error relative to themselves (`tests/minimax.py`). Those of
float also make up for the rounding of ln 2, of which the reduced argument therefore takes one part only.

A product of a subnormal number takes a hundred times as long as another one on some processors. No
subnormal input gets into one: see `apart`.
"""

cimport cython

from libc.stdint cimport int32_t, uint32_t

from fastact.activations.arithmetic cimport absolute, fma, float_bits, real, to_odd_float
from fastact.activations.exponential cimport (
    at_least, at_most, bend_of, clip, exponential_less_one, exponential_to_float, half_range,
    power_of_two, quotient, remainder, remainder_low, rounding, signed_gradient, split_power,
    split_rounding, tiny_of, within,
)


# `gelu_tanh` takes these, too.

cdef inline float unless_nan(float result, float x) noexcept nogil:
    """`result`, or x itself where x is NaN."""
    return result if x == x else x


cdef inline float half_of(float x) noexcept nogil:
    """x / 2 by integers: rounded towards x if it is subnormal, NaN for NaN and infinity."""
    cdef float_bits size, half
    half.value, size.value = x, absolute(x)
    half.bits -= <uint32_t> min(<int32_t> (size.bits >> 1), <int32_t> (1 << 23))
    return half.value


cdef inline float apart(float x, float tiny, float highest, float half, float *rest) noexcept nogil:
    """|x|, at most `highest`, or 0 below `tiny`, where the result is `half` without any arithmetic.

    `rest` is for `together`: `half` there, and elsewhere a zero with the sign of x. Where |x| is 0, a
    formula has to give 0 of either sign.
    """
    cdef float_bits size, least, bits
    cdef uint32_t sign = <uint32_t> 1 << 31
    size.value, least.value, bits.value = absolute(x), tiny, half
    bits.bits = bits.bits if <int32_t> size.bits < <int32_t> least.bits else bits.bits & sign
    rest[0] = bits.value
    bits.value = at_most(size.value, highest)
    bits.bits = 0 if <int32_t> size.bits < <int32_t> least.bits else bits.bits
    return bits.value


cdef inline float together(float result, float rest) noexcept nogil:
    """`rest` where it is not zero; elsewhere `result` with the sign of `rest`, if that is -0.0."""
    cdef float_bits bits, others
    bits.value, others.value = result, rest
    bits.bits |= others.bits
    return bits.value


@cython.cdivision(True)
cdef inline float gelu_in_float(float x) noexcept nogil:
    """gelu(x), including subnormal results.

    The quotient y = C / sum is corrected by its exact residual: it is y (1 + residual / C), and what is
    added to y in the end is y (e + (1 + e) residual / C). t is multiplied by 2**k, exactly, and all else is
    2**-32 of what it stands for, so that only the last fma can round to a subnormal number. Its 2**k is 0
    for t above 14.82, where the result has long rounded to zero.

    Below 2**-40, x / 2 is the result.
    """
    # 2**-32 C and its reciprocal.
    cdef float above = <float> 9.288678853858201e-11, over = <float> 10765793280.0
    cdef float shift = <float> 0.734375
    cdef float t, half, low, rounded, r, p00, p01, p02, p03, q00, q01, q02, q03
    cdef float whole, rest, y, residual, e, base
    t = apart(x, <float> 9.094947017729282e-13, <float> 14.84, half_of(x), &half)  # 2**-40
    e = t * <float> 0.5
    rest = t * e
    low = fma(t, e, -rest)
    rounded = quotient(rest, rounding(32, x))
    r = remainder(rest, rounded - rounding(32, x)) + low
    e = exponential_less_one(r)
    p03 = fma(t, <float> -0.7337413430213928, <float> -6.271026134490967)
    p02 = fma(t, p03, <float> -22.656612396240234)
    p01 = fma(t, p02, <float> -37.36328887939453)
    p00 = fma(t, p01, <float> 7.714181423187256)
    q03 = t + <float> 9.883027076721191
    q02 = fma(t, q03, <float> 44.56644058227539)
    q01 = fma(t, q02, <float> 106.57373046875)
    q00 = fma(t, q01, <float> 121.45172119140625)
    whole = t + shift
    rest = p00 / q00 + (t - (whole - shift))
    y = above / (whole + rest)
    residual = fma(-y, rest, fma(-y, whole, above))
    e = y * fma(residual, fma(e, over, over), e)
    base = <float> 0 if <float> 9.094947017729282e-13 > x else x
    t = t * power_of_two(rounded)
    return unless_nan(together(fma(-t, y, fma(-t, e, base)), half), x)


@cython.cdivision(True)
cdef inline float gelu_backward_in_float(float grad, float x) noexcept nogil:
    """grad * gelu'(x).

    z - t is represented by two numbers, and so is the derivative, before the last sum, which is that of
    products with `grad`. As in `gelu_backward_in_parts`, 2**k is split into `before` and `after` for
    negative x; both are 0 below -23. For positive x, where 1 - D(t) rounds to 1 above t = 7, both are 1.
    If what `grad` has become is 0 or infinite, its product with the lower part is taken for -0.0, which
    changes nothing: not even the sign of a zero.
    """
    cdef float zero_high = <float> 0.7517915368080139, zero_low = <float> -1.211444988769017e-08
    cdef float one = 1, t, half, low, rounded, r, e
    cdef float p00, p01, p02, p03, q00, q01, q02, q03
    cdef float before, after, scale, back, v, v_low, factor, base, high, more
    cdef float_bits bits
    t = at_least(absolute(clip(x, <float> -23.005, <float> 7)), tiny_of(x))
    half = t * <float> 0.5
    e = t * half
    low = fma(t, half, -e)
    rounded = quotient(e, split_rounding(x))
    r = remainder(e, rounded - split_rounding(x)) + low
    p03 = fma(t, <float> -0.20211580395698547, <float> -1.0447741746902466)
    p02 = fma(t, p03, <float> -1.2421355247497559)
    p01 = fma(t, p02, <float> 4.055562496185303)
    p00 = fma(t, p01, <float> 11.441312789916992)
    q03 = t + <float> 8.136741638183594
    q02 = fma(t, q03, <float> 28.587648391723633)
    q01 = fma(t, q02, <float> 49.36790466308594)
    q00 = fma(t, q01, <float> 34.654266357421875)
    e = exponential_less_one(r)
    e = fma(p00 / q00, one + e, e)
    # z - t = v + v_low, where the difference is exact with its rounding error (Knuth's TwoSum).
    v = zero_high - t
    back = v - zero_high
    v_low = ((zero_high - (v - back)) - (t + back)) + zero_low
    back = v
    v = back + v_low
    v_low = (back - v) + v_low
    scale = split_power(rounded, <float> 0.5, &before, &after)
    factor = one if x < 0 else -scale
    base = <float> 0 if x < 0 else one
    before = before if x < 0 else one
    after = after if x < 0 else one
    high = fma(factor, v, base)
    more = fma(factor, fma(v, e, fma(v_low, e, v_low)), fma(factor, v, base - high))
    grad = grad * before
    bits.value = absolute(grad)
    more = grad * more if bits.bits - 1 < 0x7F7FFFFF else <float> -0.0
    return unless_nan(fma(grad, high, more) * after, x)


@cython.cdivision(True)
cdef inline double gelu_slope_to_float(double x) noexcept nogil:
    """gelu'(x) with a relative error of 2**-29, for x that is a float.

    P has an error of 2**-30.8 on 0 <= t <= 21. There, the product of D and any float rounds to zero.
    """
    cdef double t, w, slope, w2, w3, p00, p01, p02, p03, p04, p05, p06, p07
    t = absolute(x)
    t = <double> 21 if t > 21 else t
    w = fma(<double> -8, 1 / (t + 4), <double> 1)
    w2 = w * w
    w3 = w2 * w
    p06 = fma(w3, -1.662638313056753e-05, -0.00015638775868214274)
    p07 = fma(w3, -2.2317295185777194e-07, 0.00018580843423436402)
    p03 = fma(w3, p06, -0.028083330220590386)
    p04 = fma(w3, p07, 0.009505273586716129)
    p05 = fma(w3, -1.3306079218652081e-05, -0.0017884315308549688)
    p00 = fma(w3, p03, 0.4622112442826101)
    p01 = fma(w3, p04, -0.10336589956750775)
    p02 = fma(w3, p05, 0.06046291535652092)
    p00 = fma(w2, p02, fma(w, p01, p00))
    slope = (0.7517915246935645 - t) * (p00 * exponential_to_float(t * t * 0.5))
    return slope if x < 0 else 1 - slope


@cython.cdivision(True)
cdef inline double mapped(
    double t, double *low, double *reciprocal, double *residual
) noexcept nogil:
    """(t - 4) / (t + 4) = 1 - 8 / (t + 4), and its rounding error `low`, for 0 <= t <= 55.

    1 / (t + 4) is reciprocal * (1 + residual). The sum is split into its rounded value and the rounding
    error, which is exact for t > 4, too, since the subtraction of 4 is. So is 1 - 8 * reciprocal for t < 12.
    """
    cdef double total, y, w
    total = t + 4
    y = 1 / total
    residual[0] = fma(total - 4 - t, y, fma(-total, y, <double> 1))
    w = fma(<double> -8, y, <double> 1)
    low[0] = fma(<double> -8, y, 1 - w) - 8 * y * residual[0]
    reciprocal[0] = y
    return w


cdef inline double reduce_square(
    double t, double round_at, double *rounded, double *low
) noexcept nogil:
    """exp(-t**2 / 2) = 2**k (e + low), where e is returned, and k + round_at is `rounded`.

    The square is exact, in two parts, so that the error is small relative to the result in the tail, too.
    """
    cdef double square, half, r, bend, e
    square = t * t
    low[0] = fma(t, t, -square) * 0.5
    half = square * 0.5
    rounded[0] = quotient(half, round_at)
    r = remainder(half, rounded[0] - round_at)
    low[0] += remainder_low(rounded[0] - round_at)
    bend = bend_of(r + low[0], low[0])
    e = 1 + (bend - r)
    low[0] = ((1 - e) - r) + bend
    return e


cdef inline double product(
    double a, double a_low, double b, double b_low, double *low
) noexcept nogil:
    """(a + a_low) (b + b_low) as a rounded number, which is returned, and `low`."""
    cdef double high = a * b
    low[0] = fma(a, b, -high) + fma(a, b_low, a_low * b)
    return high


cdef inline double gelu_in_parts(double x) noexcept nogil:
    """gelu(x), including subnormal results.

    P has an error of 2**-59.8 on 0 <= t <= 39. All factors of t Q(t), and the largest terms of P, are
    represented by two numbers. The difference max(x, 0) - t Q(t) is rounded once, when all terms are in.

    As in `silu`, everything is scaled by 2**538, and only the last product can be subnormal.

    The result rounds to x above 9, and to -0.0 below -39. If t is below 2**-60, it rounds to x / 2.
    """
    cdef double lift = 8.997827589086393e+161                  # 2**538
    cdef double first = 0.7552851304157515, first_low = -2.2925302071099058e-17
    cdef double second = -0.6078966419718921, second_low = -2.3665872948373348e-17
    cdef double third = 0.38713740074221475, third_low = 1.5809312714673352e-17
    cdef double t, w, w_low, y, residual, rounded, e, e_low, p, p_low, s, s_low, q, q_low
    cdef double scale, base, result
    cdef double w2, w4, w8, w16, p03, p05, p07, p09, p11, p13, p15, p17, p19, p21, p23
    t = absolute(x)
    t = <double> 39 if t > 39 else t
    t = tiny_of(x) if t < tiny_of(x) else t
    e = reduce_square(t, rounding(538, x), &rounded, &e_low)
    w = mapped(t, &w_low, &y, &residual)
    w2 = w * w
    w4 = w2 * w2
    w8 = w4 * w4
    w16 = w8 * w8
    p03 = fma(w, 0.060396574890923246, -0.18652185795965726)
    p05 = fma(w, -0.003479692367092909, -0.00754018896673471)
    p07 = fma(w, 0.0001333443089451318, 0.0016308184578501194)
    p09 = fma(w, -1.9082354133884784e-06, -0.00023109493881724475)
    p11 = fma(w, 7.165721571649469e-07, 3.51447139062668e-05)
    p13 = fma(w, -6.294571058559106e-07, -5.92030208556735e-06)
    p15 = fma(w, 2.714377820779323e-07, 1.021930292857761e-06)
    p17 = fma(w, -8.511656659544287e-08, -1.5566443096530988e-07)
    p19 = fma(w, 1.9583462291674464e-08, 1.4083260702763628e-08)
    p21 = fma(w, -2.633288564450563e-09, 1.4003203198314493e-09)
    p23 = fma(w, 5.7913733655492484e-11, -5.823298347221513e-10)
    p03 = fma(w2, p05, p03)
    p07 = fma(w2, p09, p07)
    p11 = fma(w2, p13, p11)
    p15 = fma(w2, p17, p15)
    p19 = fma(w2, p21, p19)
    p03 = fma(w4, p07, p03)
    p11 = fma(w4, p15, p11)
    p19 = fma(w4, p23, p19)
    p03 = fma(w8, p11, p03)
    p03 = fma(w16, p19, p03)
    p = fma(w, p03, third)
    p_low = fma(w, p03, third - p) + third_low
    s = fma(w, p, second)
    s_low = fma(w, p, second - s) + fma(w, p_low, second_low)
    q = fma(w, s, first)
    # The derivative of P at w is about second + 2 w p.
    q_low = fma(w, s, first - q) + fma(w, s_low, fma(w_low, fma(w, p, s), first_low))
    q = product(q, q_low, e, e_low, &q_low)
    y = product(t, <double> 0, y, y * residual, &residual)
    q = product(q, q_low, y, residual, &q_low)
    scale = power_of_two(rounded)
    base = t * lift if x > 0 else <double> 0
    result = fma(-scale, q, base)
    q_low = fma(-scale, q, base - result) - scale * q_low
    return within((result + q_low) * half_range(x), x, x, -39, 9)


cdef inline double gelu_backward_in_parts(double grad, double x) noexcept nogil:
    """grad * gelu'(x).

    P has an error of 2**-59.5 on 0 <= t <= 55, where the product of D and any number rounds to zero. z is
    represented by two numbers, so that z - t is accurate to the last bit near the zero. As in
    `logistic_slope`, the last sum is that of the products with `grad`, and 2**k is split into `before` and
    `after` for negative x. For positive x, both are 1.
    """
    cdef double zero_high = 0.7517915246935645, zero_low = -1.4956759177009883e-17
    cdef double first = 0.4622112440495753, second = -0.10336589852195695
    cdef double t, w, w_low, y, residual, rounded, e, e_low, s, q, q_low, big, small, d, d_low
    cdef double before, after, scale, base, factor, high, more
    cdef double w2, w4, w8, w16, p02, p04, p06, p08, p10, p12, p14, p16, p18, p20
    t = absolute(x)
    t = <double> 55 if t > 55 else t
    t = tiny_of(x) if t < tiny_of(x) else t
    e = reduce_square(t, split_rounding(x), &rounded, &e_low)
    scale = split_power(rounded, <double> 1, &before, &after)
    w = mapped(t, &w_low, &y, &residual)
    w2 = w * w
    w4 = w2 * w2
    w8 = w4 * w4
    w16 = w8 * w8
    p02 = fma(w, -0.028083359953045624, 0.06046293676785133)
    p04 = fma(w, -0.001788260541313968, 0.009504950375083383)
    p06 = fma(w, 0.00018577577573158796, -0.00015461331256816932)
    p08 = fma(w, -1.8034946834090455e-05, -1.747721673022283e-05)
    p10 = fma(w, 2.2167705964695766e-06, 3.538912076401334e-06)
    p12 = fma(w, -3.494500729173271e-07, -4.921989512367263e-07)
    p14 = fma(w, 6.338830905639532e-08, 5.244031107000959e-08)
    p16 = fma(w, -1.1465441260987498e-08, -7.726403808607603e-10)
    p18 = fma(w, 1.7351955920637513e-09, -1.7683726911455148e-09)
    p20 = fma(w, -1.5616745206187623e-10, 5.665245938544367e-10)
    p20 = fma(w2, -7.572468561648017e-11, p20)
    p02 = fma(w2, p04, p02)
    p06 = fma(w2, p08, p06)
    p10 = fma(w2, p12, p10)
    p14 = fma(w2, p16, p14)
    p18 = fma(w2, p20, p18)
    p02 = fma(w4, p06, p02)
    p10 = fma(w4, p14, p10)
    p02 = fma(w8, p10, p02)
    p02 = fma(w16, p18, p02)
    s = fma(w, p02, second)
    q = fma(w, s, first)
    # The derivative of P at w is about second + 2 w p02.
    q_low = fma(w, s, first - q) + w_low * fma(w, p02, s)
    # z - t, whose rounding error counts for large t, and whose second part counts near the zero.
    big = t if t > zero_high else zero_high
    small = zero_high if t > zero_high else t
    s = big - small
    d_low = (big - s) - small
    s = -s if t > zero_high else s
    d_low = (-d_low if t > zero_high else d_low) + zero_low
    d = s + d_low
    d_low = (s - d) + d_low
    q = product(q, q_low, d, d_low, &q_low)
    q = product(q, q_low, e, e_low, &q_low)
    base = <double> 0 if x < 0 else <double> 1
    factor = <double> 1 if x < 0 else -scale
    high = fma(factor, q, base)
    more = fma(factor, q, base - high) + factor * q_low
    before = before if x < 0 else <double> 1
    after = after if x < 0 else <double> 1
    return signed_gradient(grad, x, before, after, high, more)


cdef inline real gelu(real x) noexcept nogil:
    """max(x, 0) - |x| Q(|x|): see above."""
    if real is float:
        return gelu_in_float(x)
    else:
        return gelu_in_parts(x)


cdef inline real gelu_backward(real grad, real x) noexcept nogil:
    """grad * gelu'(x): see above."""
    if real is float:
        return gelu_backward_in_float(grad, x)
    else:
        return gelu_backward_in_parts(grad, x)


# The functions for float16 and bfloat16 are correctly rounded (the gradient for grad = 1). The
# tests check all 65,536 inputs of both types.

cdef inline float narrow_half_of(float x) noexcept nogil:
    """x / 2 for a number of a narrower type, moved upwards where that is a tie of subnormal bfloat16 numbers.

    There the bit below the last one of a bfloat16 is set: it is cleared below 0, and others are set besides.
    """
    cdef float_bits half, whole
    half.value, whole.value = half_of(x), x
    half.bits = half.bits & ~(whole.bits >> 16) | 1
    return half.value


cdef inline float positive_part(float x) noexcept nogil:
    """max(x, 0), for x that is not tiny; and 2**-47 more if that is not 0.

    The half of 2**-24, a float16, is a tie. The result is above it, and so is what this makes of it.
    """
    return <float> 0 if <float> 1.4901161193847656e-08 > x else x + <float> 7.105427357601002e-15


@cython.cdivision(True)
cdef inline float gelu_narrow(float x) noexcept nogil:
    """gelu of a number of a narrower type; the caller rounds the result to that type.

    As `gelu_in_float`, without what makes that accurate to an ULP of float: the square is exact, and Q(t)
    is exp(-t**2 / 2) times a quotient of polynomials. Its error is some 2**-21, with which 12 results near
    ties would be wrong. The coefficients, all times 2**-32 in the exponential, are those that
    `tests/ties.py` finds, with which none is.

    Only numbers of bfloat16 are below 2**-26, where x / 2 is the result.
    """
    cdef float t, half, square, rounded, r, q
    cdef float e00, e01, e02, e03, e04, p00, p01, p02, q00, q01, q02, q03
    t = apart(x, <float> 1.4901161193847656e-08, <float> 14.84, narrow_half_of(x), &half)
    square = t * t
    rounded = fma(square, <float> -0.7213475108146667, rounding(32, x))
    r = fma(rounded - rounding(32, x), <float> 1.38629436492919921875, square)
    e04 = fma(r, <float> -6.037434007594156e-14, <float> 6.099594028648181e-13)
    e03 = fma(r, e04, <float> -4.850922614985098e-12)
    e02 = fma(r, e03, <float> 2.9103252793816203e-11)
    e01 = fma(r, e02, <float> -1.1641522468242016e-10)
    e00 = fma(r, e01, <float> 2.328305742649306e-10)
    p02 = fma(t, <float> 0.39889925718307495, <float> 2.784632921218872)
    p01 = fma(t, p02, <float> 8.408793449401855)
    p00 = fma(t, p01, <float> 11.571460723876953)
    q03 = t + <float> 6.9756364822387695
    q02 = fma(t, q03, <float> 22.152711868286133)
    q01 = fma(t, q02, <float> 35.282615661621094)
    q00 = fma(t, q01, <float> 23.142915725708008)
    q = p00 * e00 / q00
    return unless_nan(together(fma(-(t * power_of_two(rounded)), q, positive_part(x)), half), x)


cdef inline float gelu_backward_narrow(float grad, float x) noexcept nogil:
    """gelu_backward for a narrower type; the caller rounds the result to that type."""
    return unless_nan(<float> to_odd_float(grad * gelu_slope_to_float(x)), x)
