"""The examples: each is run on a small setting, and has to find what it says it finds.

Every bound leaves room around what was seen on the same setting with seeds 0 to 7.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import script

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn", reason="no scikit-learn, whose digits the examples use")

FOLDER = Path(__file__).parent.parent / "examples"
NAMES = ["last_layer", "classifier", "why_nonlinear", "backward"]


@pytest.fixture(autouse=True)
def _as_from_their_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def load(name):
    return script(f"examples/{name}.py")


def test_all_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(NAMES)
    assert all(f"test_{name}" in globals() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_prints_and_draws(name, monkeypatch, tmp_path, capsys):
    image = pytest.importorskip("matplotlib.image", reason="no matplotlib to draw with")
    path = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--epochs", "2", "--plot", str(path)])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert "nan" not in printed
    assert np.ptp(image.imread(path)) == 1  # not blank


def test_last_layer():
    findings = load("last_layer").run(epochs=10)
    error = {key: f.error for key, f in findings.items()}
    for (_, label), f in findings.items():
        assert f.error >= f.bound
        # What each cannot predict.
        if not label.startswith("linear"):
            assert f.predicted.min() >= 0
    # Sigmoid cannot follow amounts of 0 to 16: it comes to its bound.
    sigmoid = findings["0 to 16", "sigmoid"]
    assert sigmoid.predicted.max() <= 1
    assert sigmoid.error < 1.02 * sigmoid.bound
    assert error["0 to 16", "sigmoid"] > 2 * error["0 to 16", "relu"]
    assert error["0 to 16", "sigmoid"] > 4 * error["0 to 16", "linear"]
    # Nor can relu and sigmoid follow targets below 0.
    assert error["less the mean", "relu"] > 2 * error["less the mean", "linear"]
    assert error["less the mean", "sigmoid"] > 2.5 * error["less the mean", "linear"]
    # On 0 to 1 sigmoid is good, better by cross-entropy, and never outside of the range, as
    # linear is.
    by_entropy = findings["0 to 1", "sigmoid, cross-entropy"]
    assert by_entropy.error < 0.9 * error["0 to 1", "sigmoid"]
    assert by_entropy.error < 1.3 * error["0 to 1", "linear"]
    assert by_entropy.outside == 0 == findings["0 to 1", "sigmoid"].outside
    assert findings["0 to 1", "linear"].outside > 0.05


def test_classifier():
    findings = load("classifier").run()
    softmax, sigmoid, too_long = findings.values()
    assert softmax.accuracy > 0.92
    assert sigmoid.accuracy > 0.88
    # All images, each held out once; ten probabilities of each for softmax.
    assert softmax.count.sum() == 10 * sigmoid.count.sum() == 17970
    # They are probabilities; also those that are nearly certain.
    assert softmax.gap < 0.01
    assert sigmoid.gap < 0.04
    for f in (softmax, sigmoid):
        assert f.true[-1] > f.said[-1] - 0.02
    # The network that was trained for too long is no worse, but too sure.
    assert too_long.accuracy > 0.87
    assert too_long.gap > 0.045
    assert too_long.true[-1] < too_long.said[-1] - 0.03


def test_why_nonlinear():
    f = load("why_nonlinear").run()
    eps = np.finfo(np.float64).eps
    assert f.collapsed < 20 * eps
    assert f.with_relu > 0.1
    # No linear network is better than the best linear function; one relu layer is, by far.
    assert f.error["no nonlinearity"] >= f.linear_bound - 1e-6
    assert f.error["in every layer"] < f.linear_bound / 2
    for name in ("no nonlinearity", "only at the output"):
        assert f.accuracy["disc", name] < 0.7
        assert f.accuracy["odd digits", name] < f.accuracy["odd digits", "in every layer"] - 0.02
    assert f.accuracy["disc", "in every layer"] > 0.92


def test_regions_of_why_nonlinear():
    # Four lines cut the plane into 11 pieces at most.
    module = load("why_nonlinear")
    which = module.regions(module.run(epochs=20).networks["in every layer"], module.square(200)[1])
    assert 5 <= len(np.unique(which)) <= 11


def test_backward():
    module = load("backward")
    f = module.run(epochs=10)
    # Sigmoid: a quarter is left of the gradient, layer by layer; relu keeps it.
    first, last = f.gradients["sigmoid"][[0, -1]]
    assert first < 1e-4 * last
    for name in ("relu", "leaky relu, slope 0.01", "leaky relu, slope 0.3"):
        first, last = f.gradients[name][[0, -1]]
        assert 0.1 < first / last < 10
    # Dead units learn nothing, unless leaky.
    assert f.silent["relu"] == f.dead["relu"] > 10
    assert f.silent["leaky relu, slope 0.01"] == 0 < f.dead["leaky relu, slope 0.01"]
    # A layer that is off ends the gradient of relu, for good; the steeper the slope, the more
    # comes through, and the more units come back.
    below, still_off = list(f.below.values()), list(f.still_off.values())
    assert below[0] == 0
    assert below == sorted(below)
    assert still_off[0] == module.WIDTH
    assert still_off == sorted(still_off, reverse=True)
    assert still_off[-1] < module.WIDTH / 2
    assert f.accuracy[0] < 0.15
    assert min(f.accuracy[0.1], f.accuracy[0.3]) > 0.6


def test_sigmoid_gradients_of_backward():
    x = np.float32([-20, -10, 10, 17, 20])
    from_input, from_output, exact = load("backward").sigmoid_gradients(x)
    np.testing.assert_allclose(from_input, exact, rtol=1e-6)
    np.testing.assert_allclose(from_output[:2], exact[:2], rtol=1e-6)
    assert abs(from_output[2] / exact[2] - 1) > 1e-5
    assert not from_output[3:].any()
