# Loops for dense layers, losses and gradient descent, called by `networks/dense.pyx` and
# `networks/training.pyx`.
#
# `add_to_rows` and `sum_rows` process a contiguous matrix by rows, so each sum is in the order of
# the rows. For the activation, a dense layer uses the loop of its ufunc.

cimport cython

from fastact.activations.arithmetic cimport absolute, real
from fastact.activations.sigmoid cimport sigmoid
from fastact.activations.softplus cimport softplus


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
        velocity[i] = 0 if absolute(velocity[i]) < least else velocity[i]
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
    return softplus(-absolute(z)) + (product if wrong != 0 else <real> 0)


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
            gradient[i] = (sigmoid(prediction[i]) - target[i]) / divisor
        for i in range(size // LANES):
            for j in range(LANES):
                sums[j] += losses[i * LANES + j]
        for j in range(size % LANES):
            sums[j] += losses[size - size % LANES + j]
        prediction += size
        target += size
        gradient += size
        n -= size
    # The sign of NaN would be that of an instruction.
    for j in range(LANES):
        sums[j] = sums[j] if sums[j] == sums[j] else c_nan()
