"""The calls that NumPy makes: the general path.

Whatever `fast_call` does not take goes to NumPy's original slot. Before that, the default of the last
operand is filled in, and bfloat16 looked for. Errors of NumPy that do not name what is wanted are
replaced (`refusals.py`).
"""

cimport numpy as cnp
from cpython.object cimport PyObject

from fastact._core.calls.bfloat16 cimport bfloat16_type, look_for_bfloat16
from fastact._core.calls.ufunc_data cimport (
    PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyVectorcall_NARGS, UfuncData, call_t, data_of,
)
from fastact._core.driver.engine cimport store_number
from fastact._core.driver.rows cimport close_room, open_room

import numpy as np

from fastact._core.calls.refusals import overrides, refuse

cnp.import_array()

cdef extern from *:
    """
    /* Where memory is lacking, NumPy (2.4) may fail without an exception. */
    static PyObject *fastact_call_numpy(
        fastact_call call, PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    {
        PyObject *result = call(self, args, nargsf, kwnames);
        if (result == NULL && !PyErr_Occurred())
            PyErr_NoMemory();
        return result;
    }
    """
    object call_numpy "fastact_call_numpy"(
        call_t call, object self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
    PyObject **PySequence_Fast_ITEMS(tuple items)


cdef object general_call(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation, with the default operand filled in."""
    cdef UfuncData *ufunc = data_of(self)
    cdef Py_ssize_t given = PyVectorcall_NARGS(nargsf)
    look_for_bfloat16()
    if ufunc.on_rows:
        open_room()
    try:
        return call_filled(self, args, nargsf, kwnames)
    except TypeError as error:
        by_position = [<object> args[i] for i in range(given)]
        keywords = by_name(args, given, kwnames)
        operands = by_position[:ufunc.nin]
        if ufunc.has_default and <object> ufunc.default_name in keywords:
            operands.append(keywords[<object> ufunc.default_name])
        refuse(self, ufunc.has_default, bfloat16_type, operands, by_position, keywords, error)
        raise
    finally:
        if ufunc.on_rows:
            close_room()


cdef dict by_name(PyObject *const *args, Py_ssize_t given, PyObject *kwnames):
    """The arguments of a vectorcall that are given by name."""
    cdef Py_ssize_t i
    cdef dict keywords = {}
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            keywords[<object> PyTuple_GET_ITEM(kwnames, i)] = <object> args[given + i]
    return keywords


cdef object call_filled(object self, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """Call NumPy's implementation; a last operand with a default is passed by position."""
    cdef UfuncData *ufunc = data_of(self)
    cdef Py_ssize_t i, given = PyVectorcall_NARGS(nargsf)
    cdef bint names_axis = ufunc.on_rows and (
        any_overrides(args, given) or kwnames != NULL and "axes" in <tuple> kwnames)
    cdef bint nones = False
    if kwnames != NULL:
        for i in range(PyTuple_GET_SIZE(kwnames)):
            nones = nones or args[given + i] == <PyObject *> None
    if not ufunc.has_default and not names_axis and not nones:
        return call_numpy(ufunc.numpy_call, self, args, nargsf, kwnames)
    cdef list operands = [<object> args[i] for i in range(given)]
    cdef dict keywords = by_name(args, given, kwnames)
    # The defaults that `inspect.signature` shows, which NumPy itself refuses in part.
    if nones:
        for name in ("dtype", "signature", "sig", "axes") if ufunc.on_rows else ("dtype", "signature", "sig"):
            if keywords.get(name, name) is None:
                del keywords[name]
    if names_axis:
        if "axes" in keywords:
            copy_overlapping(ufunc, operands, keywords)
        else:
            keywords.setdefault("axis", -1)
    elif ufunc.has_default:
        fill_default(self, ufunc, operands, keywords)

    cdef tuple values = (*operands, *keywords.values())
    cdef tuple names = tuple(keywords)
    return call_numpy(
        ufunc.numpy_call, self, PySequence_Fast_ITEMS(values), len(operands),
        <PyObject *> names if names else NULL)


cdef bint any_overrides(PyObject *const *args, Py_ssize_t given) except -1:
    """Whether an operand, such as a DataFrame, makes the call itself. It needs to know the axis:
    pandas would hand its columns over as the last one.
    """
    cdef Py_ssize_t i
    for i in range(given):
        if not isinstance(<object> args[i], cnp.ndarray) and hasattr(<object> args[i], "__array_ufunc__"):
            return True
    return False


cdef copy_overlapping(UfuncData *ufunc, list operands, dict keywords):
    """Replace inputs that share memory with the output by copies.

    NumPy does so, but it takes one array along two axes to be the same elements in the same order.
    """
    cdef int i
    out = keywords.get("out", operands[ufunc.nin] if len(operands) > ufunc.nin else None)
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    for i in range(min(ufunc.nin, len(operands)) if isinstance(out, np.ndarray) else 0):
        if not overrides(operands[i]):
            array = np.asanyarray(operands[i])
            if np.may_share_memory(array, out):
                operands[i] = array.copy()


cdef fill_default(object self, UfuncData *ufunc, list operands, dict keywords):
    """Append the last operand if it was omitted or passed by keyword, and convert a number."""
    cdef int last = ufunc.nin - 1
    name = <object> ufunc.default_name
    if name in keywords:
        if len(operands) != last:
            problem = "got two values for" if len(operands) > last else "wants operands before"
            raise TypeError(f"{self.__name__}() {problem} {name!r}: {len(operands)} operands by position")
        operands.append(keywords.pop(name))
    elif len(operands) == last:
        operands.append(ufunc.default)
    if len(operands) > last and type(operands[last]) in (int, float):
        operands[last] = converted(ufunc, operands[last], operands, keywords)


cdef object converted(UfuncData *ufunc, object number, list operands, dict keywords):
    """Convert a number to the dtype of the operands before it, which become arrays, or, if these are
    integers, to the result dtype of np.exp.

    NumPy would use float64 for integers, and warn if the number is out of range.
    """
    cdef int i
    if not keywords.keys().isdisjoint(("dtype", "signature", "sig")):
        # NumPy casts a number to its own types only, and a larger int not at all.
        if bfloat16_type >= 0 and np.dtype(keywords.get("dtype")).num == bfloat16_type:
            return rounded_to_bfloat16(ufunc, number, np.dtype(keywords["dtype"]))
        return float(number) if abs(number) >= 1 << 64 else number
    for i in range(ufunc.nin - 1):
        if type(operands[i]) not in (int, float) and not hasattr(operands[i], "__array_ufunc__"):
            operands[i] = np.asarray(operands[i])
    others = operands[:ufunc.nin - 1]
    if not all(isinstance(operand, (np.ndarray, np.generic)) for operand in others):
        return number
    # NumPy converts a number correctly if it is in the range of all types, as most slopes are,
    # and if it may cast.
    if ("casting" not in keywords and 1e-4 < abs(number) < 1e4
            and all(operand.dtype.kind == "f" for operand in others)):
        return number
    if all(operand.dtype.num == bfloat16_type for operand in others):
        return rounded_to_bfloat16(ufunc, number, others[0].dtype)
    if all(operand.dtype.kind in "biuf" for operand in others):
        dtype = np.exp.resolve_dtypes((np.result_type(*others), None))[1]
        with np.errstate(all="ignore"):
            return dtype.type(number)
    return number


cdef object rounded_to_bfloat16(UfuncData *ufunc, object number, object dtype):
    """Round a Python number to bfloat16 in the same way as `fast_call`.

    The constructor of bfloat16 rounds twice, and does not accept a large int.
    """
    # The operands may be byte-swapped, and the number is written in native order.
    cdef cnp.ndarray rounded = np.empty((), dtype.newbyteorder("="))
    store_number(&ufunc.bfloat16, float(number), cnp.PyArray_DATA(rounded))
    return rounded[()]
