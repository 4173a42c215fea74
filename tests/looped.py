"""Tables that are gone over within a test, where a cell takes less time than a test of its own."""

import inspect
import itertools
from functools import wraps

import pytest


def looped(names, values, ids=None):
    """Call a test with each of some values, as `pytest.mark.parametrize` does, but in one test.

    All cells are tried. A test that fails names each cell that failed, with what it said, which
    tells the operands. Fixtures are made once for all cells, so a cell must leave them as they are.

    Parameters
    ----------
    names : str or sequence of str
        The arguments that the values are for.
    values : iterable
        Or tuples of values, or `pytest.param`, if there are several names.
    ids : sequence of str, or callable, optional
        How to name the values; by default, by `repr`.
    """
    names = names.replace(" ", "").split(",") if isinstance(names, str) else list(names)
    values = list(values)
    ids = [*map(ids, values)] if callable(ids) else list(ids or [None] * len(values))
    axis = [_cell(names, value, name) for value, name in zip(values, ids, strict=True)]
    assert axis, f"no values of {names}"

    def decorate(test):
        call, axes = getattr(test, "looped", (test, []))
        axes = [axis, *axes]

        @wraps(call)
        def over_all(**fixtures):
            _try_all(call, fixtures, axes)

        signature = inspect.signature(test)
        over_all.__signature__ = signature.replace(
            parameters=[p for p in signature.parameters.values() if p.name not in names]
        )
        over_all.looped = call, axes
        over_all.pytestmark = [*getattr(test, "pytestmark", [])]
        return over_all

    return decorate


def _cell(names, value, name):
    """Return the arguments of a cell, and how to name it."""
    if isinstance(value, type(pytest.param())):
        name = value.id if name is None else name
        row = value.values
    else:
        row = value if len(names) > 1 else (value,)
    arguments = dict(zip(names, row, strict=True))
    return arguments, name or ", ".join(f"{n}={v!r}" for n, v in arguments.items())


def _try_all(call, fixtures, axes):
    count, failed, first = 0, [], None
    for cell in itertools.product(*axes):
        arguments = {name: value for part, _ in cell for name, value in part.items()}
        count += 1
        try:
            call(**fixtures, **arguments)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            # What the first cell lacks, such as a package, all of them lack.
            if count == 1 and isinstance(error, pytest.skip.Exception):
                raise
            first = first or error
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            failed.append(f"  {'; '.join(name for _, name in cell)}: {said[:400]}")
    if failed:
        text = "\n".join(failed)
        raise AssertionError(f"{len(failed)} of {count} cells failed:\n{text}") from first
