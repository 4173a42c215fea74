"""Dense layers, forward and backward.

Design
------
A dense layer consists of a matrix product, computed by NumPy's BLAS, and one pass over its
result. The pass processes tiles that fit in the L1 cache: it adds the bias to a tile and
runs the loop of the activation over the sums. The backward pass runs the loop of the
derivative over a tile and adds the rows of the result to the gradient of the bias. This
fusion works for all activations with a ufunc in this package. It uses the same loop as the
ufunc, so the results are bitwise identical to those of, e.g., ``relu(x + bias)``. Any other
activation is for the caller to call, between `start` and `keep`, and between `saved` and `backward`.

Large passes are split over threads. The forward pass is split by rows and the backward pass
by columns, so that the order of every sum over the rows is independent of the number of
threads.

Results are allocated from a `Pool`, which reuses an array once nothing else refers to it.

NumPy's product runs code of others: its warnings call functions that a user has set, and other
threads run while it computes. So what was checked before a product is checked again before
a pass reads or writes memory after it; NumPy's product checks its own operands, which are no views
from before. The parameters and their gradients cannot be resized while
a layer has them, because it holds weak references to them.

The arrays that `forward` saves for `backward` are read and written together. The GIL sees to
that, or a critical section where there is none. Threads that share a layer may get the arrays
that another thread has saved, but never a mix of both.
"""

cimport cython
cimport numpy as cnp

from fastact._core.driver.engine cimport run, store_number
from fastact._core.driver.kernel cimport Kernel, loop_of
from fastact._core.networks.pools cimport Pool, dangles, fresh, held, overlap
from fastact._core.runtime.threads cimport RELEASE, split
from fastact._core.ufuncs cimport kernel_of

import numpy as np

from fastact._core import ufuncs

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_MatrixProduct2(object a, object b, cnp.ndarray out)

ctypedef void (*vector_t)(void *matrix, void *row, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil

cdef enum:
    # Size of a tile in bytes. The tiles of up to three arrays fit in the L1 cache together.
    TILE = 8192
    # Minimum number of columns per thread. With fewer, the overhead would dominate.
    WIDE = 64
    MAX_DIMS = cnp.NPY_MAXDIMS


cdef struct Pass:
    # One pass over the rows of matrices with the same memory layout.
    const Kernel *kernel          # kernel of the activation, or NULL
    char *args[4]                 # operands of the kernel, its output last
    Py_ssize_t steps[4]
    int count                     # number of args
    vector_t over_rows              # runs before the kernel, over its first operand,
    bint after                    # or, if `after`, after the kernel, over its output
    char *row
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t item


cdef void go_over_tiles(
    const Pass *this, Py_ssize_t row, Py_ssize_t last_row, Py_ssize_t first_column, Py_ssize_t last_column
) noexcept nogil:
    cdef Py_ssize_t width = last_column - first_column, fitting = TILE // this.item
    # Whole rows are contiguous, so a tile consists of several whole rows or of a part of one row.
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
                run(this.kernel, now, tall * wide, this.steps, True)
            if this.after:
                this.over_rows(now[this.count - 1], this.row + column * this.item, tall, wide)
            column += wide
        row += tall


cdef void pass_rows(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Pass *this = <Pass *> context
    go_over_tiles(this, start, stop, 0, this.columns)


cdef void pass_columns(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Pass *this = <Pass *> context
    if start < stop:
        go_over_tiles(this, 0, this.rows, start, stop)


cdef void run_split(Pass *this) noexcept nogil:
    cdef Py_ssize_t elements = this.rows * this.columns
    if this.after:
        split(pass_columns, this, this.columns, WIDE, elements)
    else:
        split(pass_rows, this, this.rows, 1, elements)


cdef class Dense:
    """f(x @ weight.T + bias), forward and backward, with the arrays saved between the two.

    f is the identity unless `fused` is True.

    The caller must check and convert the operands, unless `takes` or `takes_gradient`
    returns True for them.

    Parameters
    ----------
    weight, bias : ndarray
        Contiguous arrays of shapes (m, n) and (m,), both float32 or both float64. Anything
        else raises a TypeError or ValueError.
    function, gradient : numpy.ufunc, optional
        f and its backward pass, which are fused if they are ufuncs of this package.
    operand : float, optional
        The last operand of both ufuncs.
    keeps_input : bool
        Whether the backward pass of f uses the input of f, rather than its output.
    table : dict, optional
        The kernel table to use.
    """

    cdef readonly cnp.ndarray weight, bias, weight_gradient, bias_gradient
    cdef readonly Pool pool
    # Saved by the last forward: the input as a matrix, the array that the backward pass of f needs,
    # and the shapes of output and input.
    cdef readonly object x, kept, shape, x_shape
    cdef cnp.ndarray transposed
    cdef tuple references
    cdef const Kernel *function
    cdef const Kernel *derivative
    cdef vector_t add_to_rows
    cdef vector_t sum_rows
    cdef bint keeps_input, has_operand
    cdef double operand                              # room for one element of either type
    cdef int type_number
    cdef readonly Py_ssize_t columns, inputs
    cdef Py_ssize_t item

    def __init__(
        self, weight, bias, function=None, gradient=None, operand=None,
        bint keeps_input=False, table=None
    ):
        cdef int type_number = check_parameters(weight, bias)
        table = ufuncs.kernel_table(ufuncs.isa) if table is None else table
        kind = "f32" if type_number == cnp.NPY_FLOAT else "f64"
        self.weight, self.bias = weight, bias
        self.transposed = weight.T
        self.weight_gradient = np.zeros(weight.shape, weight.dtype)
        self.bias_gradient = np.zeros(bias.shape, bias.dtype)
        self.references = held((weight, bias, self.weight_gradient, self.bias_gradient))
        self.pool = Pool()
        self.type_number, self.item = type_number, weight.itemsize
        self.columns, self.inputs = weight.shape
        self.add_to_rows = <vector_t> loop_of(table, f"add_to_rows_{kind}")
        self.sum_rows = <vector_t> loop_of(table, f"sum_rows_{kind}")
        self.keeps_input = keeps_input
        self.has_operand = operand is not None
        self.function = kernel_of(function, self.type_number, 1 + self.has_operand)
        self.derivative = kernel_of(gradient, self.type_number, 2 + self.has_operand)
        if self.function == NULL or self.derivative == NULL:
            self.function = self.derivative = NULL
        elif self.has_operand:
            store_number(self.function, operand, &self.operand)

    @property
    def fused(self):
        """Whether `function` and `gradient` are ufuncs of this package, so that they are fused."""
        return self.function != NULL

    cpdef bint takes(self, x) noexcept:
        """Whether x is an array of the type of the layer with a last axis of the right length."""
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(x):
            return False
        array = <cnp.ndarray> x
        return (cnp.PyArray_TYPE(array) == self.type_number and cnp.PyArray_ISBEHAVED_RO(array)
                and cnp.PyArray_NDIM(array) > 0
                and cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1) == self.inputs)

    cpdef bint takes_gradient(self, grad) noexcept:
        """Whether `grad` can be passed to `backward`."""
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(grad):
            return False
        array = <cnp.ndarray> grad
        with cython.critical_section(self):
            shape = self.shape
        return (cnp.PyArray_TYPE(array) == self.type_number and cnp.PyArray_ISCARRAY_RO(array)
                and (<object> array).shape == shape)

    def overwrites(self, cnp.ndarray array not None):
        """Whether `backward` writes to memory of an array."""
        self.check()
        return self.writes_to(array)

    cdef bint writes_to(self, cnp.ndarray array) noexcept:
        return overlap(array, self.weight_gradient) or overlap(array, self.bias_gradient)

    def forget(self):
        """Release the arrays that `forward` saved."""
        with cython.critical_section(self):
            self.x = self.kept = self.shape = self.x_shape = None

    cdef int check(self) except -1:
        """Raise an error if the shape, dtype or layout of a parameter has changed.

        NumPy allows changing the shape, dtype and memory of an array in place.
        """
        if self.weight is None:
            raise ValueError("a Dense that was never initialised")
        if (not lies(self.weight, self.type_number, 2, self.columns, self.inputs)
                or not lies(self.bias, self.type_number, 1, self.columns, self.columns)):
            raise self.changed("weight and bias", (self.weight, self.bias))
        if cnp.PyArray_BYTES(self.weight) != cnp.PyArray_BYTES(self.transposed):
            transposed = self.weight.T               # resized and back, with its data moved
            with cython.critical_section(self):
                self.transposed = transposed
        return 0

    cdef int check_backward(self, cnp.ndarray grad, cnp.ndarray x, cnp.ndarray kept) except -1:
        """Raise an error if an array that `backward` reads or writes has changed."""
        cdef Py_ssize_t n = cnp.PyArray_SIZE(grad)
        self.check()
        if x is None:
            raise ValueError("backward() before forward()")
        if not flat(grad, self.type_number, n):
            raise ValueError(f"a gradient of shape {(<object> grad).shape}, wanted {self.shape}")
        if cnp.PyArray_TYPE(x) != self.type_number or cnp.PyArray_NDIM(x) != 2 or dangles(x) or (
                cnp.PyArray_DIM(x, 0) * self.columns != n or cnp.PyArray_DIM(x, 1) != self.inputs):
            raise self.changed("the input kept by forward()", (x,))
        if kept is not None and not flat(kept, self.type_number, n):
            raise self.changed("the array kept by forward()", (kept,))
        if (not lies(self.weight_gradient, self.type_number, 2, self.columns, self.inputs)
                or not lies(self.bias_gradient, self.type_number, 1, self.columns, self.columns)):
            raise self.changed(
                "the gradients of weight and bias", (self.weight_gradient, self.bias_gradient))
        if not cnp.PyArray_ISWRITEABLE(self.weight_gradient):
            raise ValueError("the gradient of the weight is read-only")
        if not cnp.PyArray_ISWRITEABLE(self.bias_gradient):
            raise ValueError("the gradient of the bias is read-only")
        return 0

    cdef object changed(self, what, tuple arrays):
        found = ", ".join(f"{array.dtype} of shape {array.shape}" for array in arrays)
        return ValueError(
            f"{what}: changed in place, which leaves {found}, in a layer from {self.inputs} to "
            f"{self.columns} features; write into the array, or make another layer")

    def __call__(self, x):
        """Compute the output without saving anything."""
        self.check()
        y = self.empty(x, self.columns, None)
        return self.compute(matrix(x, self.inputs), y, y)

    def forward(self, x):
        """Compute the output and save the arrays that `backward` needs; x must satisfy `takes`."""
        x_matrix = self.begin(x)
        z = self.empty(x, self.columns, self.pool)
        y = self.empty(x, self.columns, self.pool) if self.function != NULL and self.keeps_input else z
        y = self.compute(x_matrix, z, y)
        self.keep(x_matrix, x.shape, y.shape, None if self.function == NULL else z if self.keeps_input else y)
        return y

    def start(self, x):
        """The input as a matrix, and x @ weight.T + bias: all of `forward` but f and `keep`."""
        x_matrix = self.begin(x)
        z = self.empty(x, self.columns, self.pool)
        return x_matrix, self.compute(x_matrix, z, z)

    cdef object begin(self, x):
        self.check()
        return matrix(x.copy() if self.writes_to(x) else x, self.inputs)

    cpdef keep(self, x_matrix, x_shape, shape, kept):
        """Save the arrays that `backward` needs, all at once."""
        with cython.critical_section(self):
            self.x, self.x_shape, self.shape, self.kept = x_matrix, x_shape, shape, kept

    def saved(self, cnp.ndarray grad not None):
        """What one call of `forward` saved, for the activation and `backward`; it fits `grad`."""
        cdef cnp.ndarray x, kept
        with cython.critical_section(self):
            x, kept, x_shape = self.x, self.kept, self.x_shape
        self.check_backward(grad, x, kept)
        return x, kept, x_shape

    def backward(self, cnp.ndarray grad not None, bint input_gradient, tuple saved=None):
        """Compute the gradients of the parameters, and return that of x if requested.

        `grad` must be a contiguous array of the type of the layer, with the shape of the output. `saved`
        is what the method of this name returned, if it has been called.
        """
        cdef cnp.ndarray x, kept
        if saved is not None:
            x, kept, x_shape = saved
        else:
            with cython.critical_section(self):
                x, kept, x_shape = self.x, self.kept, self.x_shape
        if self.weight is not None and self.writes_to(grad):
            grad = grad.copy()
        self.check_backward(grad, x, kept)           # before anything is written
        dz = grad
        if self.function != NULL:
            dz = self.pool.take(cnp.PyArray_NDIM(grad), cnp.PyArray_DIMS(grad), self.type_number)
        cnp.PyArray_FILLWBYTE(self.bias_gradient, 0)
        self.run_pass(self.derivative, self.sum_rows, True, grad, kept, dz, self.bias_gradient)
        product(matrix(dz, self.columns).T, x, self.weight_gradient)
        if not input_gradient:
            return None
        x_gradient = self.pool.empty(x_shape, self.weight.dtype)
        product(matrix(dz, self.columns), self.weight, matrix(x_gradient, self.inputs))
        return x_gradient

    cdef object empty(self, cnp.ndarray x, Py_ssize_t columns, Pool pool):
        """An array for a result, with the shape of x except for the last axis.

        It is a new array if `pool` is None.
        """
        cdef cnp.npy_intp[MAX_DIMS] dims
        cdef int i, ndim = cnp.PyArray_NDIM(x)
        if ndim == 0:
            raise ValueError("an input without dimensions")
        for i in range(ndim - 1):
            dims[i] = cnp.PyArray_DIM(x, i)
        dims[ndim - 1] = columns
        if pool is None:
            return fresh(ndim, dims, self.type_number)
        return pool.take(ndim, dims, self.type_number)

    cdef object compute(self, x_matrix, z, y):
        """Compute the output in y; if z is another array, it receives the input of f."""
        product(x_matrix, self.transposed, matrix(z, self.columns))
        self.check()                                 # again, because the product runs code of others
        self.run_pass(self.function, self.add_to_rows, False, z, None, y, self.bias)
        return y

    cdef int run_pass(
        self, const Kernel *kernel, vector_t over_rows, bint after,
        cnp.ndarray first, cnp.ndarray second, cnp.ndarray out, cnp.ndarray row
    ) except -1:
        """Run the kernel from `first` (and `second`) to `out`, and `over_rows` with `row`."""
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
            run_split(&this)
        else:
            with nogil:
                run_split(&this)
        return 0


cdef int check_parameters(weight, bias) except -1:
    """Raise an error if the parameters are invalid; otherwise return their type number."""
    for name, array, ndim in (("weight", weight, 2), ("bias", bias, 1)):
        if type(array) is not np.ndarray:
            raise TypeError(f"{name} must be an ndarray, not {type(array).__name__}")
        if array.dtype.num not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE):
            raise TypeError(f"{name} must be of float32 or float64, not {array.dtype}")
        if array.ndim != ndim or 0 in array.shape:
            raise ValueError(f"{name} has shape {array.shape}, wanted {ndim} axes, none of length 0")
        if not cnp.PyArray_ISCARRAY_RO(array):
            raise ValueError(f"{name} must be contiguous, aligned and in the byte order of the machine")
    if weight.dtype != bias.dtype:
        raise TypeError(f"weight has dtype {weight.dtype}, bias {bias.dtype}; wanted one dtype")
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {bias.shape}, weight {weight.shape}; wanted {weight.shape[:1]}")
    return weight.dtype.num


cdef bint lies(cnp.ndarray array, int type_number, int ndim, Py_ssize_t first, Py_ssize_t last) noexcept:
    """Whether an array is contiguous and has this type, and `ndim` (1 or 2) axes of these lengths."""
    return (cnp.PyArray_TYPE(array) == type_number and cnp.PyArray_ISCARRAY_RO(array)
            and cnp.PyArray_NDIM(array) == ndim
            and cnp.PyArray_DIM(array, 0) == first and cnp.PyArray_DIM(array, ndim - 1) == last)


cdef bint flat(cnp.ndarray array, int type_number, Py_ssize_t n) noexcept:
    """Whether an array is contiguous and has this type and n elements."""
    return (cnp.PyArray_TYPE(array) == type_number and cnp.PyArray_ISCARRAY_RO(array)
            and cnp.PyArray_SIZE(array) == n)


cdef object matrix(cnp.ndarray array, Py_ssize_t columns):
    """An array with all axes but the last combined; a view if the array is contiguous."""
    return array if cnp.PyArray_NDIM(array) == 2 else array.reshape(-1, columns)


cdef object product(a, b, out):
    """a @ b by `numpy.dot`, because `numpy.matmul` takes half a microsecond longer."""
    return PyArray_MatrixProduct2(a, b, out)


cdef void add_operand(Pass *this, char *data, Py_ssize_t step) noexcept:
    this.args[this.count], this.steps[this.count] = data, step
    this.count += 1
