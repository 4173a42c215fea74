"""PyTorch tensors in and out without a copy, and the kernels under autograd."""

import numpy as np
import pytest
import reference
from elementwise import LAYERS

import fastact

torch = pytest.importorskip("torch")

NAMES = sorted(reference.BY_NAME)
ACTIVATIONS = [name for name in NAMES if f"{name}_backward" in NAMES]


def tensors(name, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    count = len(reference.BY_NAME[name].operands)
    return [torch.randn(30, 40, dtype=dtype, generator=generator) * 4 for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_in_and_out(name, dtype):
    operands, out = tensors(name, dtype), torch.empty(30, 40, dtype=dtype)
    ufunc = getattr(fastact, name)
    with np.errstate(all="ignore"):
        expected = ufunc(
            *(np.array(operand.tolist(), operand.numpy().dtype) for operand in operands)
        )
    result = ufunc(*(operand.numpy() for operand in operands), out=out.numpy())
    assert result.ctypes.data == out.data_ptr()
    assert result.tobytes() == out.numpy().tobytes() == expected.tobytes()
    tensor = torch.from_numpy(ufunc(*(operand.numpy() for operand in operands)))
    assert torch.equal(tensor, out)
    # In place, and through views that are not contiguous.
    first = operands[0].clone()
    ufunc(first.numpy(), *(o.numpy() for o in operands[1:]), out=first.numpy())
    assert torch.equal(first, out)
    turned = [operand.t() for operand in operands]
    assert ufunc(*(o.numpy() for o in turned)).tobytes() == expected.T.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_dlpack(name):
    operands = tensors(name)
    arrays = [np.from_dlpack(operand) for operand in operands]
    assert [a.ctypes.data for a in arrays] == [o.data_ptr() for o in operands]
    y = getattr(fastact, name)(*arrays)
    tensor = torch.from_dlpack(y)
    assert tensor.data_ptr() == y.ctypes.data
    assert y.tobytes() == getattr(fastact, name)(*(o.numpy() for o in operands)).tobytes()


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    t = torch.linspace(-9, 9, 101).bfloat16()
    y = fastact.sigmoid(t.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    tensor = torch.from_numpy(y.view(np.int16)).view(torch.bfloat16)
    torch.testing.assert_close(tensor, torch.sigmoid(t), atol=0, rtol=2**-7)


def function_of(name, *parameters):
    """An autograd function over the kernels of an activation."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy(getattr(fastact, name)(x.numpy(), *parameters))

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            backward = getattr(fastact, f"{name}_backward")
            return torch.from_numpy(backward(grad.numpy(), x.numpy(), *parameters))

    return Function


@pytest.mark.parametrize("id", LAYERS)
def test_autograd(id):
    """Gradients as by PyTorch's own module, and as by differences."""
    expectation, wanted = next(
        (e, layer) for e in reference.EXPECTATIONS for layer in e.layers if layer.id == id
    )
    function = function_of(expectation.name, *wanted.operands)
    x = torch.linspace(-4, 4, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function.apply, (x,))
    ours = torch.autograd.grad((function.apply(x) * x).sum(), x)[0]
    theirs = torch.autograd.grad((LAYERS[id].torch(torch)(x) * x).sum(), x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
