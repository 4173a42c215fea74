"""Arrays of other packages go through the ufuncs with their labels, chunks and fill values."""

import numpy as np
import pytest
import reference

import fastact

NAMES = sorted(reference.BY_NAME)
by_name = pytest.mark.parametrize("name", NAMES)


def operands(name, shape, dtype="f4"):
    """Arrays for each operand of a ufunc."""
    rng = np.random.default_rng(0)
    count = len(reference.BY_NAME[name].operands)
    return [rng.normal(0, 4, shape).astype(dtype) for _ in range(count)]


def same(result, expected):
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    assert result.tobytes() == expected.tobytes()


# --------------------------------------------------------------------------- xarray


@by_name
def test_xarray(name):
    xarray = pytest.importorskip("xarray")
    arrays = operands(name, (3, 4))
    labels = {"row": list("abc"), "column": [10, 20, 30, 40]}
    labelled = [xarray.DataArray(a, labels, ["row", "column"], attrs={"k": 1}) for a in arrays]
    result = getattr(fastact, name)(*labelled)
    assert isinstance(result, xarray.DataArray)
    assert result.dims == ("row", "column")
    xarray.testing.assert_equal(result.coords.to_dataset(), labelled[0].coords.to_dataset())
    same(result.values, getattr(fastact, name)(*arrays))


def test_xarray_aligns_by_name():
    xarray = pytest.importorskip("xarray")
    x = xarray.DataArray(np.linspace(-3, 3, 12).reshape(3, 4), dims=["row", "channel"])
    slopes = xarray.DataArray(np.array([0.1, 0.2, 0.3]), dims=["row"])
    result = fastact.leaky_relu(x, slopes)
    same(result.values, fastact.leaky_relu(x.values, slopes.values[:, None]))


def test_xarray_dataset_of_dask_arrays():
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("dask.array")
    data = xarray.Dataset({n: ("t", np.linspace(-3, k, 100)) for k, n in enumerate("ab")})
    result = fastact.sigmoid(data.chunk(t=30))
    assert result["a"].chunks == ((30, 30, 30, 10),)
    for n in "ab":
        same(result[n].values, fastact.sigmoid(data[n].values))


# --------------------------------------------------------------------------- pandas


@by_name
def test_pandas(name):
    pandas = pytest.importorskip("pandas")
    arrays = operands(name, (3, 2))
    frames = [pandas.DataFrame(a, index=list("abc"), columns=["p", "q"]) for a in arrays]
    result, expected = getattr(fastact, name)(*frames), getattr(fastact, name)(*arrays)
    assert isinstance(result, pandas.DataFrame)
    assert list(result.index) == list("abc")
    assert list(result.columns) == ["p", "q"]
    same(result.to_numpy(), expected)
    series = [pandas.Series(a[:, 0], index=list("abc"), name="p") for a in arrays]
    result = getattr(fastact, name)(*series)
    assert isinstance(result, pandas.Series)
    assert result.name == "p"
    same(result.to_numpy(), getattr(fastact, name)(*(a[:, 0] for a in arrays)))


def test_pandas_aligns_by_index():
    pandas = pytest.importorskip("pandas")
    grad = pandas.Series([1.0, 2.0, 3.0], index=list("abc"))
    x = pandas.Series([-1.0, 5.0, 7.0], index=list("cba"))
    assert fastact.relu_backward(grad, x).to_dict() == {"a": 1.0, "b": 2.0, "c": 0.0}


def test_pandas_keeps_missing_values():
    pandas = pytest.importorskip("pandas")
    x = pandas.Series([1.0, None, -1.0], dtype="Float64")
    result = fastact.sigmoid(x)
    assert result.isna().tolist() == [False, True, False]
    assert result.dtype == "Float64"
    assert result[0] == fastact.sigmoid(1.0)


# --------------------------------------------------------------------------- sparse


@by_name
def test_sparse(name):
    sparse = pytest.importorskip("sparse")
    arrays = operands(name, (20, 30), "f8")
    for i, array in enumerate(arrays):
        array[np.random.default_rng(i).random(array.shape) < 0.9] = 0
    stored = [sparse.COO.from_numpy(array) for array in arrays]
    result = getattr(fastact, name)(*stored)
    assert isinstance(result, sparse.COO)
    # What is not stored is computed once, as the fill value: sigmoid(0) is 0.5.
    zeros = [np.float64(0)] * len(arrays)
    assert result.fill_value == getattr(fastact, name)(*zeros)
    assert result.nnz <= np.count_nonzero(np.any(arrays, axis=0))
    same(result.todense(), getattr(fastact, name)(*arrays))


# ------------------------------------------------------------------------------ JAX


@pytest.mark.parametrize("name", [n for n in NAMES if f"{n}_backward" in NAMES])
def test_jax(name):
    """Through `jax.pure_callback`, with the backward pass, compiled by JAX."""
    jax = pytest.importorskip("jax")
    forward, backward = getattr(fastact, name), getattr(fastact, f"{name}_backward")

    def call(ufunc, *arrays):
        like = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
        return jax.pure_callback(ufunc, like, *arrays, vmap_method="expand_dims")

    @jax.custom_vjp
    def activation(x):
        return call(forward, x)

    activation.defvjp(lambda x: (call(forward, x), x), lambda x, grad: (call(backward, grad, x),))
    x = np.random.default_rng(0).normal(0, 4, (5, 7)).astype("f4")
    same(np.asarray(jax.jit(activation)(x)), forward(x))
    same(np.asarray(jax.vmap(activation)(x)), forward(x))
    grad = jax.jit(jax.grad(lambda x: (activation(x) * x).sum()))(x)
    expected = backward(x, x).astype("f8") + forward(x)
    np.testing.assert_allclose(np.asarray(grad), expected, rtol=1e-6, atol=1e-6)


# --------------------------------------------------------------- operations on rows


@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"]
)
@pytest.mark.parametrize("mixed", [False, True], ids=["one type", "several types"])
def test_rows_of_pandas(name, mixed):
    """By default, along rows: pandas would hand over columns as the last axis."""
    pandas = pytest.importorskip("pandas")
    count = 2 if "backward" in name else 1
    arrays = [np.random.default_rng(k).normal(0, 4, (5, 3)) for k in range(count)]
    frames = [pandas.DataFrame(a, list("abcde"), list("xyz")) for a in arrays]
    if mixed:
        frames[0] = frames[0].astype({"x": "f4"})
        arrays[0] = frames[0].to_numpy()
    function = getattr(fastact, name)
    for keywords in ({}, {"axis": -1}):
        result = function(*frames, **keywords)
        assert isinstance(result, pandas.DataFrame)
        assert [*result.columns] == list("xyz")
        same(result.to_numpy(), function(*arrays))
    same(function(*frames, axis=0).to_numpy(), function(*arrays, axis=0))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_of_dask(name):
    da = pytest.importorskip("dask.array")
    x = np.random.default_rng(0).normal(0, 4, (60, 50)).astype("f4")
    function = getattr(fastact, name)
    chunks = da.from_array(x, chunks=(16, 50))
    same(function(chunks).compute(), function(x))
    same(function(da.from_array(x, chunks=(60, 16)), axis=0).compute(), function(x, axis=0))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_of_xarray(name):
    xarray = pytest.importorskip("xarray")
    x = np.random.default_rng(0).normal(0, 4, (6, 5)).astype("f4")
    labelled = xarray.DataArray(x, dims=["sample", "class"])
    function = getattr(fastact, name)
    result = xarray.apply_ufunc(
        function, labelled, input_core_dims=[["sample"]], output_core_dims=[["sample"]]
    )
    assert result.dims == ("class", "sample")
    same(result.values, function(x.T))
