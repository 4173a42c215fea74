# Loops for dense layers, losses and gradient descent, called by `dense.pyx` and
# `training.pyx`.
#
# `add_to_rows` and `sum_rows` process a contiguous matrix by rows, so each sum is in the order of
# the rows. For the activation, a dense layer uses the loop of its ufunc.

cimport cython

from fastact.activations.arithmetic cimport real


cdef void add_to_rows(
    real_array matrix, real_array row, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            matrix[j] += row[j]
        matrix += columns


cdef void sum_rows(
    real_array matrix, real_array total, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            total[j] += matrix[j]
        matrix += columns


# A step of gradient descent. `settings` contains the learning rate, the momentum and the smallest
# normal number. A subnormal velocity is set to 0. Where the gradient stays 0, as for a dead unit,
# the velocity would otherwise become subnormal and stay so, because 0.9 times the smallest
# subnormal number rounds to that number. This would make every step several times slower.

cdef void descend(
    real_array parameter, real_array gradient, real_array settings, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    rate = settings[0]
    for i in range(n):
        parameter[i] -= rate * gradient[i]


cdef void descend_with_momentum(
    real_array parameter, real_array gradient, real_array velocity, real_array settings, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    rate, momentum, least = settings[0], settings[1], settings[2]
    for i in range(n):
        velocity[i] = momentum * velocity[i] + gradient[i]
        velocity[i] = 0 if formula.absolute(velocity[i]) < least else velocity[i]
        parameter[i] -= rate * velocity[i]


# Mean squared error: the differences times `scale`, and the sum of the squares. The sum is computed
# in LANES parts, so that its order is the same for all instruction sets.

cdef inline double square(double x) noexcept nogil:
    return x * x


cdef void squared_error(
    real_array prediction, real_array target, real_array scale, real_array gradient, f64 sums, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i, j
    factor = scale[0]
    for i in range(n // LANES):
        for j in range(LANES):
            gradient[j] = (prediction[j] - target[j]) * factor
            sums[j] += square(prediction[j] - target[j])
        prediction += LANES
        target += LANES
        gradient += LANES
    for j in range(n % LANES):
        gradient[j] = (prediction[j] - target[j]) * factor
        sums[j] += square(prediction[j] - target[j])


# Binary cross-entropy of logits: sigmoid(prediction) - target over `scale`, and the sum of

#     log(1 + exp(-|z|)) + z ((z > 0) - target),

# which does not overflow. The formulas are applied to a block, whose losses are added up after that:
# the compiler does not vectorize them inside of a sum. The sum is that of `squared_error`.

cdef enum:
    BLOCK = 512


cdef inline real logistic_loss_of(real z, real target) noexcept nogil:
    cdef real wrong = (<real> 1 if z > 0 else <real> 0) - target
    cdef real product = z * wrong
    # An infinite logit of the right sign has a loss of 0.
    return formula.softplus(-formula.absolute(z)) + (product if wrong != 0 else <real> 0)


@cython.cdivision(True)
cdef void logistic_loss(
    real_array prediction, real_array target, real_array scale, real_array gradient, f64 sums, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i, j, size
    cdef double[BLOCK] losses
    divisor = scale[0]
    while n > 0:
        size = n if n < BLOCK else BLOCK
        for i in range(size):
            losses[i] = logistic_loss_of(prediction[i], target[i])
        for i in range(size):
            gradient[i] = (formula.sigmoid(prediction[i]) - target[i]) / divisor
        for i in range(size // LANES):
            for j in range(LANES):
                sums[j] += losses[i * LANES + j]
        for j in range(size % LANES):
            sums[j] += losses[size - size % LANES + j]
        prediction += size
        target += size
        gradient += size
        n -= size


# Cross-entropy of softmax: (softmax(prediction) - target) over `scale`, and the sum of the
# cross-entropies of the rows, log(sum(exp(x))) - x for the class of a row. A target is the classes
# of the rows, or, where `labels` is NULL, the weights of all classes.

cdef inline double loss_of_weights(
    real_array x, real_array weights, real_array high, real_array low, double *total, Py_ssize_t n
) noexcept nogil:
    """The loss of a row of any weights, and their sum."""
    cdef double loss = 0
    cdef Py_ssize_t i
    total[0] = 0
    for i in range(n):
        total[0] += weights[i]
        # A class of weight 0 may have a logit of -inf.
        loss -= weights[i] * <double> shifted(x[i], high[0], low[0]) if weights[i] != 0 else 0
    return loss


@cython.cdivision(True)
cdef void softmax_loss(
    real_array prediction, const Py_ssize_t *labels, real_array weights, real_array scale,
    real_array gradient, double *loss, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef double[3] room
    cdef double share = 1
    cdef Py_ssize_t i, g, group, label
    cdef real_array x, numbers = <real_array> room
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first = <real_array> this.base, <real_array> this.first
    first_lost, high = <real_array> this.first_lost, <real_array> this.high
    rest, rest_of_first = <real_array> this.rest, <real_array> this.rest_of_first
    while rows > 0:
        group = group_of(rows, n)
        start_rows(prediction, n, group, top, pivot, limit, base)
        for g in range(group):
            first[g] = first_term(top[g], pivot[g], base[g], &first_lost[g])
        for g in range(group):
            x = prediction + g * n
            sum_row(x, gradient + g * n, n, pivot + g, limit + g, base + g, parts, lost)
            this.total[g], this.lost[g] = parts[0], lost[0]
            take_off(parts, lost, first[g])
            if hidden(parts[0], first[g], x):
                sum_others(x, n, pivot + g, limit + g, base + g, first + g, True, parts, lost)
            this.others[g], this.others_lost[g] = parts[0], lost[0]
        for g in range(group):
            this.log_sum[g] = logarithm(
                top[g], this.others[g], this.others_lost[g], first[g], first_lost[g],
                &this.log_low[g])
        for g in range(group):
            if labels == NULL:
                numbers[0] = leading(this.log_sum[g], this.log_low[g], &numbers[1])
                loss[0] += loss_of_weights(prediction, weights, numbers, numbers + 1, &share, n)
            invert(
                this.total[g], this.lost[g], first + g, first_lost + g,
                high + g, rest + g, rest_of_first + g)
            scale_row(gradient, n, high + g, rest + g, first + g, rest_of_first + g)
            divisor = scale[0]
            if labels == NULL:
                numbers[2] = share
                total = numbers[2]
                for i in range(n):
                    gradient[i] = (gradient[i] * total - weights[i]) / divisor
                weights += n
            else:
                label = labels[0]
                loss[0] += (this.log_sum[g] - prediction[label]) + this.log_low[g]
                numbers[0] = 1
                # 1 less the probability of the largest class is the sum of the others.
                gradient[label] -= numbers[0]
                if prediction[label] == top[g]:
                    gradient[label] = -(this.others[g] + this.others_lost[g]) * high[g]
                for i in range(n):
                    gradient[i] /= divisor
                labels += 1
            prediction += n
            gradient += n
        rows -= group


TABLE.update({
    f"{name}_{kind}": loop
    for name, loops in {
        "add_to_rows": (entry(<void *> add_to_rows[f32]), entry(<void *> add_to_rows[f64])),
        "sum_rows": (entry(<void *> sum_rows[f32]), entry(<void *> sum_rows[f64])),
        "descend": (entry(<void *> descend[f32]), entry(<void *> descend[f64])),
        "descend_with_momentum": (
            entry(<void *> descend_with_momentum[f32]), entry(<void *> descend_with_momentum[f64])),
        "squared_error": (entry(<void *> squared_error[f32]), entry(<void *> squared_error[f64])),
        "softmax_loss": (entry(<void *> softmax_loss[f32]), entry(<void *> softmax_loss[f64])),
        "logistic_loss": (entry(<void *> logistic_loss[f32]), entry(<void *> logistic_loss[f64])),
    }.items()
    for kind, loop in zip(("f32", "f64"), loops)
})
