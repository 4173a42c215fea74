# Loops over rows side by side: see `rows.pxi`.

cdef enum:
    TALL = 16                        # elements of rows that are looked at before they are computed


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
    double[WIDTH] terms
    double[WIDTH] log_sum
    double[WIDTH] log_low


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
    start_sums(top, pivot, limit, base, width)


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
        if real_array is f64 and i % PIECE == 0 and i > 0:
            settle(parts, lost, LANES * width)
        for j in range(width):
            now[j] = term(x[j], pivot[j], limit[j], base[j])
        for j in range(width):
            add_to(parts + i % LANES * width, lost + i % LANES * width, j, now[j], real_array is f64)
        x += steps[0]
        now += steps[1]
    add_parts(parts, lost, width, real_array is f64)
    first_terms(top, pivot, base, first, first_lost, width)
    inverses(parts, lost, first, first_lost, high, rest, rest_of_first, width)
    for i in range(n):
        for j in range(width):
            out[j] = scaled(out[j], high[j], rest[j], first[j], rest_of_first[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        out += steps[1]


cdef void add_columns(
    real_array x, Py_ssize_t step, Py_ssize_t n, Py_ssize_t width,
    real_array pivot, real_array limit, real_array base, real_array skipped,
    real_array terms, f64 parts, f64 lost
) noexcept nogil:
    """Add up the terms of each row that are less than `skipped`."""
    cdef Py_ssize_t i, j
    clear(parts, lost, LANES * width)
    for i in range(n):
        if real_array is f64 and i % PIECE == 0 and i > 0:
            settle(parts, lost, LANES * width)
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
    cdef double least = least_share(n, x)
    cdef Py_ssize_t i, j
    cdef bint again = False
    cdef f64 parts = this.parts, lost = this.lost, others = this.others, others_low = this.others_low
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first, high = <real_array> this.base, <real_array> this.first, <real_array> this.high
    first_lost, rest = <real_array> this.first_lost, <real_array> this.rest
    skipped, terms = <real_array> this.skipped, <real_array> this.terms
    start_columns(x, steps[0], n, width, top, pivot, limit, base)
    first_terms(top, pivot, base, first, first_lost, width)
    for j in range(width):
        skipped[j] = INFINITY
    add_columns(x, steps[0], n, width, pivot, limit, base, skipped, terms, parts, lost)
    for j in range(width):
        others[j] = parts[j] - first[j]
        others_low[j] = lost[j] + sum_error(parts[j], -<double> first[j], others[j])
        again |= others[j] < first[j] * least
        skipped[j] = first[j] if others[j] < first[j] * least else skipped[j]
    if again:
        add_columns(x, steps[0], n, width, pivot, limit, base, skipped, terms, parts, lost)
        for j in range(width):
            others[j] = parts[j] if skipped[j] == first[j] else others[j]
            others_low[j] = lost[j] if skipped[j] == first[j] else others_low[j]
    logarithms(top, others, others_low, first, first_lost, this.log_sum, this.log_low, width)
    for j in range(width):
        high[j] = leading(this.log_sum[j], this.log_low[j], &rest[j])
    for i in range(n):
        for j in range(width):
            out[j] = shifted(x[j], high[j], rest[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        x += steps[0]
        out += steps[1]


cdef inline void multiply_and_add(
    real_array grad, real_array y, const Py_ssize_t *steps, Py_ssize_t n, Py_ssize_t width,
    f64 parts, f64 lost
) noexcept nogil:
    cdef Py_ssize_t i, j
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            add_product(
                parts + i % LANES * width, lost + i % LANES * width, j, grad[j], y[j],
                real_array is f64)
        grad += steps[0]
        y += steps[1]


cdef inline void softmax_slopes(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width, real_array high, real_array rest
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(width):
            out[j] = slope_of_softmax(grad[j], y[j], high[j], rest[j])
        grad += steps[0]
        y += steps[1]
        out += steps[2]


cdef inline void add_gradients(
    real_array grad, Py_ssize_t step, Py_ssize_t n, Py_ssize_t width, f64 parts, f64 lost
) noexcept nogil:
    cdef Py_ssize_t i, j
    clear(parts, lost, LANES * width)
    for i in range(n):
        for j in range(width):
            add_to(
                parts + i % LANES * width, lost + i % LANES * width, j, grad[j], real_array is f64)
        grad += step


cdef inline void log_softmax_slopes(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width, real_array limit, real_array base, real_array high, real_array rest
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(width):
            out[j] = slope_of_log_softmax(grad[j], y[j], limit[j], base[j], high[j], rest[j])
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
    cdef Columns this
    high, rest = <real_array> this.high, <real_array> this.rest
    if width == WIDTH:
        multiply_and_add(grad, y, steps, n, WIDTH, this.parts, this.lost)
    else:
        multiply_and_add(grad, y, steps, n, width, this.parts, this.lost)
    add_parts(this.parts, this.lost, width, real_array is f64)
    if not lead_sums(this.parts, this.lost, high, rest, width):
        softmax_backward_of_any(grad, y, out, steps, n, width, this.parts, this.lost)
    elif width == WIDTH:
        softmax_slopes(grad, y, out, steps, n, WIDTH, high, rest)
    else:
        softmax_slopes(grad, y, out, steps, n, width, high, rest)


cdef void log_softmax_backward_columns(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width
) noexcept nogil:
    cdef Columns this
    cdef Py_ssize_t i, size
    cdef bint usual, fits
    limit, base = <real_array> this.limit, <real_array> this.base
    high, rest = <real_array> this.high, <real_array> this.rest
    if width == WIDTH:
        add_gradients(grad, steps[0], n, WIDTH, this.parts, this.lost)
    else:
        add_gradients(grad, steps[0], n, width, this.parts, this.lost)
    add_parts(this.parts, this.lost, width, real_array is f64)
    usual = scale_sums(this.parts, this.lost, limit, base, high, rest, width)
    while n > 0:
        size = min(<Py_ssize_t> TALL, n)
        fits = usual
        for i in range(size):
            fits &= no_more_than_0(y + i * steps[1], width)
        if not fits:
            log_softmax_backward_of_any(grad, y, out, steps, size, width, this.parts, this.lost)
        elif width == WIDTH:
            log_softmax_slopes(grad, y, out, steps, size, WIDTH, limit, base, high, rest)
        else:
            log_softmax_slopes(grad, y, out, steps, size, width, limit, base, high, rest)
        grad += size * steps[0]
        y += size * steps[1]
        out += size * steps[2]
        n -= size
