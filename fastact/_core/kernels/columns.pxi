# Loops over rows side by side: see `rows.pxi`. WIDTH must be that of `rows.pyx`.

cdef enum:
    WIDTH = 32                       # rows side by side, at most


cdef struct Columns:
    # What there is to know about up to WIDTH rows, most of it in the type of the elements.
    double[LANES * WIDTH] parts
    double[LANES * WIDTH] lost
    double[WIDTH] others
    double[WIDTH] others_low
    double[WIDTH] top
    double[WIDTH] pivot
    double[WIDTH] limit
    double[WIDTH] base
    double[WIDTH] first
    double[WIDTH] first_lost
    double[WIDTH] skipped
    double[WIDTH] high
    double[WIDTH] rest
    double[WIDTH] rest_of_first
    double[WIDTH] shrink
    double[WIDTH] terms


cdef inline void start_columns(
    real_array x, Py_ssize_t step, Py_ssize_t n, Py_ssize_t width,
    real_array top, real_array pivot, real_array limit, real_array base
) noexcept nogil:
    cdef Py_ssize_t i, j
    for j in range(width):
        top[j] = -INFINITY
    for i in range(n):
        for j in range(width):
            top[j] = x[j] if x[j] > top[j] else top[j]
        x += step
    for j in range(width):
        pivot[j] = pivot_of(top[j])
        limit[j] = limit_of(top[j], pivot[j])
        base[j] = base_of(top[j], pivot[j])


cdef inline void softmax_side_by_side(
    real_array x, real_array out, const Py_ssize_t *steps, Py_ssize_t n, Py_ssize_t width
) noexcept nogil:
    cdef Columns this
    cdef Py_ssize_t i, j
    cdef real_array now = out
    cdef f64 parts = this.parts, lost = this.lost
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first = <real_array> this.base, <real_array> this.first
    first_lost, high = <real_array> this.first_lost, <real_array> this.high
    rest, rest_of_first = <real_array> this.rest, <real_array> this.rest_of_first
    start_columns(x, steps[0], n, width, top, pivot, limit, base)
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            now[j] = term(x[j], pivot[j], limit[j], base[j])
        for j in range(width):
            add_to(parts + i % LANES * width, lost + i % LANES * width, j, now[j], real_array is f64)
        x += steps[0]
        now += steps[1]
    add_parts(parts, lost, width, real_array is f64)
    for j in range(width):
        first[j] = first_term(top[j], pivot[j], base[j], &first_lost[j])
        invert(
            parts[j], lost[j], first + j, first_lost + j, high + j, rest + j, rest_of_first + j)
    for i in range(n):
        for j in range(width):
            out[j] = scaled(out[j], high[j], rest[j], first[j], rest_of_first[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        out += steps[1]


cdef inline void add_columns(
    real_array x, Py_ssize_t step, Py_ssize_t n, Py_ssize_t width,
    real_array pivot, real_array limit, real_array base, real_array skipped,
    real_array terms, f64 parts, f64 lost
) noexcept nogil:
    """Add up the terms of each row that are less than `skipped`."""
    cdef Py_ssize_t i, j
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            terms[j] = term(x[j], pivot[j], limit[j], base[j])
            terms[j] = smaller(terms[j], skipped[j])
        for j in range(width):
            add_to(parts + i % LANES * width, lost + i % LANES * width, j, terms[j], real_array is f64)
        x += step
    add_parts(parts, lost, width, real_array is f64)


cdef inline void log_softmax_side_by_side(
    real_array x, real_array out, const Py_ssize_t *steps, Py_ssize_t n, Py_ssize_t width
) noexcept nogil:
    cdef Columns this
    cdef double total, low
    cdef Py_ssize_t i, j
    cdef bint again = False
    cdef f64 parts = this.parts, lost = this.lost, others = this.others, others_low = this.others_low
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first, high = <real_array> this.base, <real_array> this.first, <real_array> this.high
    first_lost, rest = <real_array> this.first_lost, <real_array> this.rest
    skipped, terms = <real_array> this.skipped, <real_array> this.terms
    start_columns(x, steps[0], n, width, top, pivot, limit, base)
    for j in range(width):
        first[j] = first_term(top[j], pivot[j], base[j], &first_lost[j])
        skipped[j] = INFINITY
    add_columns(x, steps[0], n, width, pivot, limit, base, skipped, terms, parts, lost)
    for j in range(width):
        others[j] = parts[j] - first[j]
        others_low[j] = lost[j] + sum_error(parts[j], -<double> first[j], others[j])
        again |= hidden(others[j], first[j], x)
        skipped[j] = first[j] if hidden(others[j], first[j], x) else skipped[j]
    if again:
        add_columns(x, steps[0], n, width, pivot, limit, base, skipped, terms, parts, lost)
        for j in range(width):
            others[j] = parts[j] if skipped[j] == first[j] else others[j]
            others_low[j] = lost[j] if skipped[j] == first[j] else others_low[j]
    for j in range(width):
        total = logarithm(top[j], others[j], others_low[j], first[j], first_lost[j], &low)
        high[j] = leading(total, low, &rest[j])
    for i in range(n):
        for j in range(width):
            out[j] = shifted(x[j], high[j], rest[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        x += steps[0]
        out += steps[1]


cdef inline void softmax_backward_side_by_side(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    cdef Columns this
    cdef Py_ssize_t i, j
    cdef f64 parts = this.parts, lost = this.lost
    high, rest = <real_array> this.high, <real_array> this.rest
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            add_product(
                parts + i % LANES * width, lost + i % LANES * width, j,
                grad[i * steps[0] + j], y[i * steps[1] + j], real_array is f64)
    add_parts(parts, lost, width, real_array is f64)
    for j in range(width):
        high[j] = leading(parts[j], lost[j], &rest[j])
    for i in range(n):
        for j in range(width):
            out[j] = slope_of_softmax(grad[j], y[j], high[j], rest[j])
            out[j] = out[j] if high[j] == high[j] else c_nan()
        grad += steps[0]
        y += steps[1]
        out += steps[2]


cdef inline void log_softmax_backward_side_by_side(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    cdef Columns this
    cdef double factor, share
    cdef Py_ssize_t i, j
    cdef f64 parts = this.parts, lost = this.lost
    high, rest, shrink = <real_array> this.high, <real_array> this.rest, <real_array> this.shrink
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            add_to(
                parts + i % LANES * width, lost + i % LANES * width, j, grad[i * steps[0] + j],
                real_array is f64)
    add_parts(parts, lost, width, real_array is f64)
    for j in range(width):
        share = part_of_scale(parts[j], &factor, grad)
        high[j] = leading(parts[j] * share, lost[j] * share, &rest[j])
        shrink[j] = factor
    for i in range(n):
        for j in range(width):
            out[j] = slope_of_log_softmax(grad[j], y[j], shrink[j], high[j], rest[j])
            out[j] = out[j] if high[j] == high[j] else c_nan()
        grad += steps[0]
        y += steps[1]
        out += steps[2]


# The compiler makes better loops of a width that it knows.

cdef void softmax_columns(
    real_array x, void *unused, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    if width == WIDTH:
        softmax_side_by_side(x, out, steps, n, WIDTH)
    else:
        softmax_side_by_side(x, out, steps, n, width)


cdef void log_softmax_columns(
    real_array x, void *unused, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    if width == WIDTH:
        log_softmax_side_by_side(x, out, steps, n, WIDTH)
    else:
        log_softmax_side_by_side(x, out, steps, n, width)


cdef void softmax_backward_columns(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    if width == WIDTH:
        softmax_backward_side_by_side(grad, y, out, steps, n, WIDTH)
    else:
        softmax_backward_side_by_side(grad, y, out, steps, n, width)


cdef void log_softmax_backward_columns(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    if width == WIDTH:
        log_softmax_backward_side_by_side(grad, y, out, steps, n, WIDTH)
    else:
        log_softmax_backward_side_by_side(grad, y, out, steps, n, width)
