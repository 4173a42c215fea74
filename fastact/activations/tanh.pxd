"""tanh and its gradient."""

cimport cython

from fastact.activations.arithmetic cimport absolute, fma, real, with_sign
from fastact.activations.exponential cimport bend_of, power_of_two, quotient, remainder, remainder_low
from fastact.activations.sigmoid cimport logistic_slope


cdef inline real tanh_near_zero(real x) noexcept nogil:
    """tanh(x) = x + x**3 P(x**2), for |x| below the limit that `tanh` has.

    P is the minimax polynomial for the error relative to tanh(x), on |x| <= 0.55: 2**-29.8 in
    float and 2**-60.6 in double (`tests/minimax.py`).
    """
    cdef real z = x * x, z2 = z * z, z4, p01, p23, p45, p67, p89
    # Estrin's order: short chains.
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


@cython.cdivision(True)
cdef inline real tanh(real x) noexcept nogil:
    """(1 - e) / (1 + e) = 2 / (1 + e) - 1 with e = exp(-2 |x|), and the sign of x.

    Near 0 the difference would lose digits: a polynomial takes its place. Below `lowest` the
    result rounds to x. There x is also kept out of the computation, because the processor
    handles denormal numbers slowly.

    Elsewhere e is at most 1/3. 1 + e is kept as `whole + rest`, which is exact to the error of e,
    and y = 1 / whole has the residual t = 1 - y (whole + rest). So 2 / (1 + e) is 2 y + 2 y t, and
    2 y - 1 is exact, as y is in [1/2, 1]: the last sum is the only rounding that counts.

    Error in float: at most 0.83 ULP, over all inputs. It is greatest just below the limit, from
    the rounding of x**3 P; above, it is at most 0.6. In double: 0.80 ULP among those sampled.
    """
    cdef real lowest, limit, highest, round_at, size, clipped, twice, rounded, k, r, bend, scale
    cdef real whole, rest, y, t, far, result
    cdef real one = 1                                          # a literal would be a double in C
    if real is float:
        lowest = <float> 1.220703125e-4                        # 2**-13
        limit = <float> 0.55
        highest = <float> 9.5
        round_at = <float> (12582912.0 + 127)                  # 1.5 * 2**23 + bias
    else:
        lowest = 3.725290298461914e-09                         # 2**-28
        limit = 0.55
        highest = 20
        round_at = 6755399441055744.0 + 1023                   # 1.5 * 2**52 + bias
    size = absolute(x)
    clipped = highest if size > highest else size              # from there on it is 1
    clipped = lowest if clipped < lowest else clipped
    twice = clipped + clipped
    rounded = quotient(twice, round_at)
    k = rounded - round_at
    r = remainder(twice, k)
    # In float the second part of the reduced argument makes a difference of 0.03 ULP.
    if real is double:
        r += remainder_low(k)
    bend = bend_of(r, <real> 0)
    scale = power_of_two(rounded)
    whole = fma(scale, bend - r, one + scale)
    rest = fma(scale, bend - r, scale - (whole - one))
    y = one / whole
    t = fma(-rest, y, fma(-whole, y, one))
    y = y + y
    far = fma(y, t, y - one)
    result = tanh_near_zero(clipped) if clipped < limit else far
    # NaN takes the last branch, and keeps its bits.
    return with_sign(result if size >= lowest else size, x)


cdef inline real tanh_backward(real grad, real x) noexcept nogil:
    """grad * (1 - tanh(x)**2) = grad * 4 e / (1 + e)**2: see `logistic_slope`.

    Error: at most 1.10 ULP for grad = 1 in float, over all inputs, and 1.35 for sampled gradients;
    in double 1.11 and 1.37 among those sampled.
    """
    cdef real result = logistic_slope(grad, x, <real> 2)
    return result if x == x else x


# For float16 and bfloat16: correctly rounded (the gradient for grad = 1). The tests try all
# 65,536 inputs of both types. `tanh` in float is so already, and has no formula of its own.

@cython.cdivision(True)
cdef inline float tanh_backward_narrow(float grad, float x) noexcept nogil:
    """tanh_backward for numbers of a narrower type, to be rounded to that type.

    Without what makes `logistic_slope` exact to an ULP of float: off by some ULP of float, which
    is enough but where the result is next to a tie of the narrower type. Many a 1 - x**2 is one,
    for small x, and the result lies 2 x**4 / 3 above it, which is not seen in float. Below 2**-6,
    shrinking x**2 by 2**-9 makes it seen. |2 x| is moved by 2**-24, which was found by trying:
    with it, no input of either type is off.
    """
    cdef float minute, round_at, moved, rounded, k, part, before, after, scale, r, bend, y, slope, small
    cdef float one = 1
    minute = <float> 5.421010862427522e-20                     # 2**-64
    round_at = <float> (12582912.0 + 127 + 64)                 # 1.5 * 2**23 + biases
    moved = absolute(x) * 2 + <float> 5.960464477539063e-08    # never denormal
    moved = <float> 215 if moved > 215 else moved
    small = fma(moved * <float> -0.24951171875, moved, one)
    rounded = quotient(moved, round_at)
    k = rounded - round_at
    r = remainder(moved, k)
    bend = bend_of(r, <float> 0) - r
    # Two factors of about the same size, as in `logistic_slope`.
    part = fma(k, <float> 0.5, round_at)
    before = power_of_two(part) * minute
    after = power_of_two(rounded - (part - round_at)) * minute
    scale = before * after
    y = one / fma(scale, bend, one + scale)
    slope = y * y
    slope = fma(slope, bend, slope)
    # Near 0, `before` is 1.
    slope = small if absolute(x) < <float> 0.015625 else slope
    after = one if absolute(x) < <float> 0.015625 else after * 4
    slope = grad * before * slope * after
    return slope if x == x else x
