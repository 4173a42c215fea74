"""What a training step consists of, below the layers: buffers, dense layers, descent.

Design
------
A dense layer is a matrix product, by NumPy's BLAS, and one pass over its result: tile by
tile, each small enough for the L1 cache, the bias is added and the loop of the activation
runs over the sums. Backward, the loop of its derivative runs over a tile and the rows of the
result are added to the gradient of the bias. So every activation that has a ufunc of
ours is fused, by the very loop of that ufunc: the bits are those of ``relu(x + bias)``.

Large passes are split over threads: forward by rows, backward by columns, so that every sum
runs over the rows in their order, however many threads there are.

What a layer returns comes from a `Pool`, which hands an array out again once nobody
else has it.
"""

cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport NAN

from fastact._core.engine cimport Kernel, run, split, store_number
from fastact._core.memory cimport LARGE, large_empty
from fastact._core.ufuncs cimport RELEASE, kernel_of

import numpy as np

from fastact._core import ufuncs

cnp.import_array()

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define FASTACT_GIL 0
    #else
    #define FASTACT_GIL 1
    #endif
    /* No reference but the list's, and no weak one, from which another could be made. */
    #define FASTACT_ONLY_HERE(o) (Py_REFCNT(o) == 1 \\
        && *(PyObject **) ((char *) (o) + Py_TYPE(o)->tp_weaklistoffset) == NULL)
    """
    const bint GIL "FASTACT_GIL"
    bint only_here "FASTACT_ONLY_HERE"(PyObject *array) noexcept
    PyObject *PyList_GET_ITEM(list items, Py_ssize_t i)

cdef extern from "numpy/arrayobject.h":
    object PyArray_EMPTY(int ndim, cnp.npy_intp *dims, int type_number, int fortran)
    object PyArray_MatrixProduct2(object a, object b, cnp.ndarray out)

ctypedef void (*rows_t)(void *matrix, void *row, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
ctypedef void (*squared_error_t)(
    void *prediction, void *target, void *scale, void *gradient, double *sums, Py_ssize_t n
) noexcept nogil
ctypedef void (*descend_t)(void *parameter, void *gradient, void *settings, Py_ssize_t n) noexcept nogil
ctypedef void (*descend_with_momentum_t)(
    void *parameter, void *gradient, void *velocity, void *settings, Py_ssize_t n
) noexcept nogil

cdef enum:
    # Bytes of a tile: those of up to three arrays are in the L1 cache together.
    TILE = 8192
    # Columns that a thread is worth starting for: rows of less would be all overhead.
    WIDE = 64
    # Arrays in a pool: two batch shapes, and two of each kind while the caller holds one.
    SLOTS = 12
    # Bytes from which results of elementwise layers come from a pool.
    POOLED = 4096
    MAX_DIMS = cnp.NPY_MAXDIMS
    OURS = (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
            | cnp.NPY_ARRAY_OWNDATA)


# -------------------------------------------------------------------- buffers

cdef class Pool:
    """Arrays that are handed out again, once nobody else has a reference to them.

    A view holds the array that owns its memory, and so do a memoryview and what was
    made by the buffer protocol or DLPack: the arrays of a pool own theirs, so that
    as long as one of these is about, the array is not handed out.

    Without a GIL, the count of references does not tell what other threads do: there, every
    array is a new one.
    """

    cdef list arrays

    def __cinit__(self):
        self.arrays = []

    def empty(self, shape, dtype):
        """An array of unknown content, as of `numpy.empty`."""
        cdef cnp.npy_intp[MAX_DIMS] dims
        cdef int i, ndim = <int> len(shape)
        for i in range(ndim):
            dims[i] = shape[i]
        return self.take(ndim, dims, (<cnp.dtype?> dtype).num)

    def like(self, first, second):
        """An array for a result of operands that are `alike`, if it is a large one; else None.

        A small one costs less where NumPy makes it, and other operands are for NumPy to judge.
        """
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(first):
            return None
        array = <cnp.ndarray> first
        if cnp.PyArray_NBYTES(array) < POOLED or not alike(first, second):
            return None
        return self.take(cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array))

    cdef object take(self, int ndim, cnp.npy_intp *dims, int type_number):
        cdef Py_ssize_t i
        cdef PyObject *item
        if not GIL:
            return fresh(ndim, dims, type_number)
        for i in range(len(self.arrays)):
            item = PyList_GET_ITEM(self.arrays, i)
            if only_here(item) and fits(<cnp.ndarray> item, ndim, dims, type_number):
                return <object> item
        array = fresh(ndim, dims, type_number)
        if len(self.arrays) == SLOTS:
            del self.arrays[0]                       # the oldest; its holder has it still
        self.arrays.append(array)
        return array


cdef bint fits(cnp.ndarray array, int ndim, cnp.npy_intp *dims, int type_number) noexcept:
    """Whether an array is as it would be made; its holder may have changed its attributes."""
    cdef int i
    if cnp.PyArray_NDIM(array) != ndim or cnp.PyArray_TYPE(array) != type_number:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(array, i) != dims[i]:
            return False
    return cnp.PyArray_FLAGS(array) & OURS == OURS and cnp.PyArray_ISNOTSWAPPED(array)


cdef object fresh(int ndim, cnp.npy_intp *dims, int type_number):
    cdef cnp.npy_intp size = cnp.PyArray_DescrFromType(type_number).itemsize
    cdef int i
    for i in range(ndim):
        size *= dims[i]
    if size < LARGE:
        return PyArray_EMPTY(ndim, dims, type_number, 0)
    return large_empty(ndim, dims, type_number, 0)


# --------------------------------------------------------------- dense layers

cdef struct Pass:
    # One pass over the rows of matrices that lie alike.
    const Kernel *kernel          # of the activation, or NULL
    char *args[4]                 # operands of the kernel, its output last
    Py_ssize_t steps[4]
    int count                     # of args
    rows_t over_rows              # before the kernel, over its first operand; if `after`,
    bint after                    # behind it, over its output
    char *row
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t item


cdef void go_over_tiles(
    const Pass *this, Py_ssize_t row, Py_ssize_t last_row, Py_ssize_t first_column, Py_ssize_t last_column
) noexcept nogil:
    cdef Py_ssize_t width = last_column - first_column, fitting = TILE // this.item
    # Whole rows lie one behind the other: a tile may have some, and may have a part of one.
    cdef Py_ssize_t height = max(1, fitting // width) if width == this.columns else 1
    cdef Py_ssize_t column, tall, wide, offset
    cdef char *now[4]
    cdef int i
    while row < last_row:
        tall = min(height, last_row - row)
        column = first_column
        while column < last_column:
            wide = width if tall > 1 else min(fitting, last_column - column)
            offset = row * this.columns + column
            for i in range(this.count):
                now[i] = this.args[i] + offset * this.steps[i]
            if not this.after:
                this.over_rows(now[0], this.row + column * this.item, tall, wide)
            if this.kernel != NULL:
                run(this.kernel, now, tall * wide, this.steps)
            if this.after:
                this.over_rows(now[this.count - 1], this.row + column * this.item, tall, wide)
            column += wide
        row += tall


cdef void run_rows(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Pass *this = <Pass *> context
    go_over_tiles(this, start, stop, 0, this.columns)


cdef void run_columns(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Pass *this = <Pass *> context
    if start < stop:
        go_over_tiles(this, 0, this.rows, start, stop)


cdef void run_shares(Pass *this) noexcept nogil:
    cdef Py_ssize_t elements = this.rows * this.columns
    if this.after:
        split(run_columns, this, this.columns, WIDE, elements)
    else:
        split(run_rows, this, this.rows, 1, elements)


cdef class Dense:
    """f(x @ weight.T + bias), forward and backward, and what lies between the two.

    The layer above checks and converts what its caller gives: `takes` tells whether there is
    a need to.

    Parameters
    ----------
    weight, bias : ndarray
        Contiguous, both float32 or both float64, of shapes (m, n) and (m,).
    activation : layers.Activation, optional
        f, where it is to be called.
    function, gradient : numpy.ufunc, optional
        f and its backward pass, to be fused if they are ours.
    operand : float, optional
        The last operand of both.
    keeps_input : bool
        Whether the backward pass of f goes by its input, and not by its output.
    table : dict, optional
        The kernel table to use.
    """

    cdef readonly object weight, bias, weight_gradient, bias_gradient
    cdef readonly Pool pool
    # Of the last forward: the input, as a matrix; the shapes; what the backward pass of f wants.
    cdef readonly object x, kept, shape, x_shape
    cdef object transposed, activation
    cdef const Kernel *function
    cdef const Kernel *derivative
    cdef rows_t add_to_rows
    cdef rows_t sum_rows
    cdef bint keeps_input, has_operand
    cdef double operand                              # room for one element of either type
    cdef int type_number
    cdef Py_ssize_t item, columns, inputs

    def __init__(
        self, weight, bias, activation=None, function=None, gradient=None, operand=None,
        bint keeps_input=False, table=None
    ):
        table = ufuncs.kernel_table(ufuncs.isa) if table is None else table
        kind = {"float32": "f32", "float64": "f64"}[weight.dtype.name]
        self.weight, self.bias = weight, bias
        self.transposed = weight.T
        self.weight_gradient = np.zeros(weight.shape, weight.dtype)
        self.bias_gradient = np.zeros(bias.shape, bias.dtype)
        self.pool = Pool()
        self.type_number, self.item = weight.dtype.num, weight.itemsize
        self.columns, self.inputs = weight.shape
        self.add_to_rows = <rows_t> loop_in(table, f"add_to_rows_{kind}")
        self.sum_rows = <rows_t> loop_in(table, f"sum_rows_{kind}")
        self.keeps_input = keeps_input
        self.has_operand = operand is not None
        self.function = kernel_of(function, self.type_number, 1 + self.has_operand)
        self.derivative = kernel_of(gradient, self.type_number, 2 + self.has_operand)
        if self.function == NULL or self.derivative == NULL:
            self.function = self.derivative = NULL
            self.activation = activation
        elif self.has_operand:
            store_number(self.function, operand, &self.operand)

    cpdef bint takes(self, x) noexcept:
        """Whether x is an array of our type, of which the last axis fits."""
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(x):
            return False
        array = <cnp.ndarray> x
        return (cnp.PyArray_TYPE(array) == self.type_number and cnp.PyArray_ISBEHAVED_RO(array)
                and cnp.PyArray_NDIM(array) > 0
                and cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1) == self.inputs)

    cpdef bint takes_gradient(self, grad) noexcept:
        """Whether an array may be given to `backward`."""
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(grad):
            return False
        array = <cnp.ndarray> grad
        return (cnp.PyArray_TYPE(array) == self.type_number and cnp.PyArray_ISCARRAY_RO(array)
                and (<object> array).shape == self.shape)

    def forget(self):
        """Drops what `forward` has kept."""
        self.x = self.kept = self.shape = self.x_shape = None

    def __call__(self, x):
        """f of x; nothing is kept."""
        y = self.empty(x, self.columns, None)
        return self.compute(matrix(x, self.inputs), y, y)

    def forward(self, x):
        """f of x, which `takes` x; what `backward` needs is kept."""
        cdef bint linear = self.function == NULL and self.activation is None
        x_matrix = matrix(x, self.inputs)
        z = self.empty(x, self.columns, self.pool)
        y = self.empty(x, self.columns, self.pool) if self.keeps_input else z
        y = self.compute(x_matrix, z, y)
        self.x, self.x_shape, self.shape = x_matrix, x.shape, y.shape
        self.kept = None if linear else z if self.keeps_input else y
        return y

    def backward(self, cnp.ndarray grad, bint input_gradient):
        """The gradient with respect to x, if wanted; those of the parameters are written.

        `grad` is an array of our type, contiguous, and of the shape of the output.
        """
        cdef cnp.ndarray bias_gradient = self.bias_gradient
        dz = grad
        if self.function != NULL:
            dz = self.pool.take(cnp.PyArray_NDIM(grad), cnp.PyArray_DIMS(grad), self.type_number)
        elif self.activation is not None:
            dz = self.pool.take(cnp.PyArray_NDIM(grad), cnp.PyArray_DIMS(grad), self.type_number)
            put(self.activation._gradient(grad, self.kept, dz), dz)
        cnp.PyArray_FILLWBYTE(bias_gradient, 0)
        self.run_pass(self.derivative, self.sum_rows, True, grad, self.kept, dz, bias_gradient)
        dz_matrix = matrix(dz, self.columns)
        product(dz_matrix.T, self.x, self.weight_gradient)
        if not input_gradient:
            return None
        x_gradient = self.pool.empty(self.x_shape, self.weight.dtype)
        product(dz_matrix, self.weight, matrix(x_gradient, self.inputs))
        return x_gradient

    cdef object empty(self, cnp.ndarray x, Py_ssize_t columns, Pool pool):
        """An array for a result, of the shape of x but for the last axis; without a pool, a new one."""
        cdef cnp.npy_intp[MAX_DIMS] dims
        cdef int i, ndim = cnp.PyArray_NDIM(x)
        for i in range(ndim - 1):
            dims[i] = cnp.PyArray_DIM(x, i)
        dims[ndim - 1] = columns
        if pool is None:
            return fresh(ndim, dims, self.type_number)
        return pool.take(ndim, dims, self.type_number)

    cdef object compute(self, x_matrix, z, y):
        """f of x, in y; the input of f is left in z, if that is another array."""
        sums = z if self.function == NULL else y
        product(x_matrix, self.transposed, matrix(z, self.columns))
        self.run_pass(self.function, self.add_to_rows, False, z, None, sums, self.bias)
        if self.activation is not None:
            put(self.activation(z, out=y), y)
        return y

    cdef int run_pass(
        self, const Kernel *kernel, rows_t over_rows, bint after,
        cnp.ndarray first, cnp.ndarray second, cnp.ndarray out, cnp.ndarray row
    ) except -1:
        """One pass: the kernel from `first` (and `second`) to `out`, and `over_rows` with `row`."""
        cdef Pass this
        this.kernel, this.over_rows, this.after = kernel, over_rows, after
        this.item, this.columns = self.item, self.columns
        this.rows = cnp.PyArray_SIZE(out) // self.columns
        this.row = cnp.PyArray_BYTES(row)
        this.count = 0
        if kernel != NULL:
            add_operand(&this, cnp.PyArray_BYTES(first), self.item)
            if second is not None:
                add_operand(&this, cnp.PyArray_BYTES(second), self.item)
            if self.has_operand:
                add_operand(&this, <char *> &self.operand, 0)
        add_operand(&this, cnp.PyArray_BYTES(out), self.item)
        if this.rows * this.columns < RELEASE:
            run_shares(&this)
        else:
            with nogil:
                run_shares(&this)
        return 0


cdef object matrix(cnp.ndarray array, Py_ssize_t columns):
    """An array with its leading axes made one."""
    return array if cnp.PyArray_NDIM(array) == 2 else array.reshape(-1, columns)


cdef int put(result, out) except -1:
    """Sees to it that a result is in `out`, in case that it is somebody's own function."""
    if result is not out:
        out[...] = result
    return 0


cdef object product(a, b, out):
    """a @ b, by `numpy.dot`: `numpy.matmul` takes half a microsecond more."""
    return PyArray_MatrixProduct2(a, b, out)


cdef void add_operand(Pass *this, char *data, Py_ssize_t step) noexcept:
    this.args[this.count], this.steps[this.count] = data, step
    this.count += 1


cdef void *loop_in(dict table, str name) except NULL:
    return PyCapsule_GetPointer(table[name], "fastact.kernel")


# ------------------------------------------------------------------- losses

cdef enum:
    LANES = 16                       # as in kernels.pxi


cpdef bint alike(first, second) noexcept:
    """Whether both are contiguous arrays of one shape and one type, float32 or float64."""
    cdef cnp.ndarray a, b
    cdef int i
    if not cnp.PyArray_CheckExact(first) or not cnp.PyArray_CheckExact(second):
        return False
    a, b = first, second
    if (cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)
            or cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(b) or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b)
            or not cnp.PyArray_ISCARRAY_RO(a) or not cnp.PyArray_ISCARRAY_RO(b)):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef class SquaredError:
    """The mean of (prediction - target)**2, and its gradient."""

    cdef squared_error_t narrow
    cdef squared_error_t wide

    def __init__(self, table=None):
        table = ufuncs.kernel_table(ufuncs.isa) if table is None else table
        self.narrow = <squared_error_t> loop_in(table, "squared_error_f32")
        self.wide = <squared_error_t> loop_in(table, "squared_error_f64")

    def __call__(self, cnp.ndarray prediction, cnp.ndarray target, cnp.ndarray gradient):
        """The loss; the gradient is written."""
        cdef double[LANES] sums
        cdef double total = 0, scale
        cdef float narrow_scale
        cdef Py_ssize_t i, n = cnp.PyArray_SIZE(prediction)
        if not alike(prediction, target) or not alike(prediction, gradient):
            raise TypeError("wanted contiguous arrays of one type and shape")
        scale = 2.0 / max(n, 1)
        narrow_scale = <float> scale
        for i in range(LANES):
            sums[i] = 0
        if cnp.PyArray_TYPE(prediction) == cnp.NPY_FLOAT:
            self.narrow(
                cnp.PyArray_DATA(prediction), cnp.PyArray_DATA(target), &narrow_scale,
                cnp.PyArray_DATA(gradient), sums, n)
        else:
            self.wide(
                cnp.PyArray_DATA(prediction), cnp.PyArray_DATA(target), &scale,
                cnp.PyArray_DATA(gradient), sums, n)
        for i in range(LANES):
            total += sums[i]
        return total / n if n else NAN


# ------------------------------------------------------------ gradient descent

cdef struct Step:
    char *parameter
    char *gradient
    char *velocity                   # NULL: no momentum
    char *settings
    void *loop
    Py_ssize_t item


cdef void run_step(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Step *this = <Step *> context
    cdef Py_ssize_t offset = start * this.item
    if this.velocity == NULL:
        (<descend_t> this.loop)(
            this.parameter + offset, this.gradient + offset, this.settings, stop - start)
    else:
        (<descend_with_momentum_t> this.loop)(
            this.parameter + offset, this.gradient + offset, this.velocity + offset, this.settings,
            stop - start)


cdef class Descent:
    """Steps of gradient descent: of arrays that stay, contiguous, float32 or float64.

    Parameters
    ----------
    parameters, gradients : list of ndarray
        Alike, one by one.
    momentum : bool
        Whether the steps have momentum.
    table : dict, optional
        The kernel table to use.
    """

    cdef readonly list parameters, gradients, velocities
    cdef void *narrow
    cdef void *wide

    def __init__(self, parameters, gradients, bint momentum, table=None):
        table = ufuncs.kernel_table(ufuncs.isa) if table is None else table
        for parameter, gradient in zip(parameters, gradients):
            if not alike(parameter, gradient):
                raise TypeError(
                    "a parameter and its gradient are to be contiguous arrays of one shape, both float32 "
                    f"or both float64, not {type(parameter).__name__} and {type(gradient).__name__}")
        name = "descend_with_momentum" if momentum else "descend"
        self.narrow, self.wide = loop_in(table, f"{name}_f32"), loop_in(table, f"{name}_f64")
        self.parameters, self.gradients = list(parameters), list(gradients)
        self.velocities = [np.zeros_like(p) for p in self.parameters] if momentum else None

    def step(self, double rate, double momentum):
        """velocity = momentum * velocity + gradient, parameter -= rate * velocity."""
        cdef float[3] narrow_settings = [<float> rate, <float> momentum, FLT_MIN]
        cdef double[3] wide_settings = [rate, momentum, DBL_MIN]
        cdef Step this
        cdef cnp.ndarray array
        cdef Py_ssize_t i, n
        for array in self.parameters:
            if not cnp.PyArray_ISWRITEABLE(array):
                raise ValueError(f"a parameter of shape {(<object> array).shape} is read-only")
        for i in range(len(self.parameters)):
            array = self.parameters[i]
            n = cnp.PyArray_SIZE(array)
            this.item = cnp.PyArray_ITEMSIZE(array)
            this.parameter = cnp.PyArray_BYTES(array)
            this.gradient = cnp.PyArray_BYTES(<cnp.ndarray> self.gradients[i])
            this.velocity = NULL
            if self.velocities is not None:
                this.velocity = cnp.PyArray_BYTES(<cnp.ndarray> self.velocities[i])
            if this.item == 4:
                this.loop, this.settings = self.narrow, <char *> narrow_settings
            else:
                this.loop, this.settings = self.wide, <char *> wide_settings
            if n < RELEASE:
                split(run_step, &this, n, 64, n)
            else:
                with nogil:
                    split(run_step, &this, n, 64, n)
