"""Memory layouts: the same values, laid out in every way that NumPy knows.

A layout is a generator function. It takes contiguous 2-D operands of shape `SHAPE` and
yields pairs ``(operands, out)`` to call a ufunc with.
"""

import numpy as np

SHAPE = (6, 420)


class Subclass(np.ndarray):
    """A subclass that changes nothing."""


def contiguous(operands):
    yield operands, None


def out_given(operands):
    yield operands, np.empty_like(operands[0])


def in_place(operands):
    """Into each of the operands; and one array as all of them."""
    for i in range(len(operands)):
        copies = [operand.copy() for operand in operands]
        yield copies, copies[i]
    copy = operands[0].copy()
    yield [copy] * len(operands), copy


def _strided(array, step):
    wide = np.zeros((array.shape[0], array.shape[1] * step), array.dtype)
    wide[:, ::step] = array
    return wide[:, ::step]


def strided(operands):
    """All operands, each alone, and the output alone; steps that are no power of two, too."""
    for step in 2, 3, 17:
        yield [_strided(operand, step) for operand in operands], None
    for i in range(len(operands)):
        yield [_strided(o, 2) if i == j else o for j, o in enumerate(operands)], None
    yield operands, _strided(np.zeros_like(operands[0]), 2)
    view = _strided(operands[0], 2)
    yield [view, *operands[1:]], view


def negative(operands):
    yield [operand[::-1, ::-1].copy()[::-1, ::-1] for operand in operands], None
    yield [operands[0], *(operand[:, ::-1].copy()[:, ::-1] for operand in operands[1:])], None
    yield operands, np.empty_like(operands[0])[::-1, ::-1]


def transposed(operands):
    """Read by columns, written by rows, and the other way round; in whole tiles and parts."""
    for shape in SHAPE, (63, 40), (40, 63), (2520, 1), (1, 2520):
        matrices = [operand.reshape(shape) for operand in operands]
        columns = [matrix.T.copy().T for matrix in matrices]
        yield columns, np.empty(shape, operands[0].dtype)
        yield matrices, np.empty(shape, operands[0].dtype, order="F")
        yield columns, np.empty((shape[0], 2 * shape[1]), operands[0].dtype)[:, ::-2]
        yield [columns[0], *matrices[1:]], None
        yield [columns[0], *matrices[1:]], np.empty(shape, operands[0].dtype)


def fortran(operands):
    yield [np.asfortranarray(operand) for operand in operands], None
    columns = [np.asfortranarray(operand) for operand in operands]
    yield columns, columns[0]


def broadcast(operands):
    """One row, one column, one value, of each operand in turn."""
    for i in range(len(operands)):
        for part in (np.s_[:1], np.s_[:, :1], np.s_[:1, :1], np.s_[1]):
            yield [o[part] if i == j else o for j, o in enumerate(operands)], None
        yield (
            [np.broadcast_to(o[:1], o.shape) if i == j else o for j, o in enumerate(operands)],
            None,
        )


def zero_dimensional(operands):
    for i in range(0, SHAPE[1], 10):
        yield [operand[0, i] for operand in operands], None
        yield [operand[0, i, ...] for operand in operands], np.empty((), operands[0].dtype)


def empty(operands):
    for part in (np.s_[:0], np.s_[:, :0], np.s_[:, 3:3], np.s_[:0, ::2]):
        yield [operand[part] for operand in operands], None
    yield [operand[:0] for operand in operands], operands[0][:0].copy()


def five_dimensional(operands):
    boxes = [operand.reshape(2, 3, 7, 6, 10) for operand in operands]
    yield boxes, None
    yield [box.transpose(3, 1, 4, 0, 2) for box in boxes], None
    yield [box.transpose(4, 0, 2, 1, 3)[:, :, ::-2, 1:, ::3] for box in boxes], None


def rows(operands):
    """Matrices with gaps between their rows, short and long ones; a row or a column is shared."""
    for width in 1, 2, 3, 5, 8, 12, 21, 30, 42, 84, 126, 210:
        matrices = [operand.reshape(-1, width) for operand in operands]
        wide = [np.pad(matrix, ((0, 0), (0, 3)))[:, :width] for matrix in matrices]
        yield wide, None
        yield wide, np.zeros_like(np.pad(matrices[0], ((0, 0), (5, 0))))[:, 5:]
        yield wide, wide[0]
        for part in (np.s_[3:4], np.s_[:, -1:], np.s_[2]):
            yield [*matrices[:-1], matrices[-1][part]], None
            yield [matrices[0][part], *wide[1:]], None


def channels(operands):
    """Pictures whose channels come first or last in memory; a value for each channel."""
    first = [operand.reshape(2, 6, 14, 15) for operand in operands]
    last = [picture.transpose(0, 2, 3, 1) for picture in first]
    yield last, None
    yield last, np.empty(last[0].shape, operands[0].dtype)
    yield [np.ascontiguousarray(last[0]), *last[1:]], None
    yield [*first[:-1], first[-1][:1, :, :1, :1]], None
    yield [*last[:-1], last[-1][0, 0, 0]], None
    yield [picture[:, :, 1:-1, 2:-3] for picture in first], None


def unaligned(operands):
    """From a byte buffer, at an odd address."""
    odd = []
    for operand in operands:
        buffer = bytearray(1) + bytearray(operand.tobytes())
        odd.append(np.frombuffer(buffer, operand.dtype, offset=1).reshape(operand.shape))
    yield odd, None
    out = np.frombuffer(bytearray(operands[0].nbytes + 1), operands[0].dtype, offset=1)
    yield operands, out.reshape(SHAPE)
    yield odd, odd[0]


def byte_swapped(operands):
    dtype = operands[0].dtype.newbyteorder()
    swapped = [operand.byteswap().view(dtype) for operand in operands]
    yield swapped, None
    yield [swapped[0], *operands[1:]], None
    yield operands, np.empty(SHAPE, dtype)


def read_only(operands):
    frozen = [operand.copy() for operand in operands]
    for operand in frozen:
        operand.flags.writeable = False
    yield frozen, None


LAYOUTS = (
    contiguous,
    out_given,
    in_place,
    strided,
    negative,
    transposed,
    fortran,
    broadcast,
    zero_dimensional,
    empty,
    five_dimensional,
    rows,
    channels,
    unaligned,
    byte_swapped,
    read_only,
)
