"""A real client: scikit-learn's multilayer perceptrons, trained with fastact's functions.

scikit-learn looks its activations up in two dictionaries. Its functions are replaced there
by fastact's, and a training on the digits it comes with goes the same way as before.
"""

from collections import Counter

import numpy as np
import pytest

import fastact

pytestmark = pytest.mark.slow

TRAINED, HIDDEN, BATCH = 1200, 2, 200

# relu and its derivative have scikit-learn's bits, and sigmoid is an ULP or two away. Adam,
# whose steps are bounded, hardly amplifies that: after 40 epochs the loss was seen 2 eps off,
# predictions 5. A line search or a relu at its kink could make more of it without either side
# being wrong, hence the margin. A sigmoid off by 1e-5 of its input fails.
TOLERANCE_IN_EPS = 1000

# scikit-learn calls these with a batch that is to be changed in place: the input x, or the
# gradient delta, given the output y. It is imported by the tests alone, since it takes a second.
REPLACED = [
    ("ACTIVATIONS", "relu", lambda x: fastact.relu(x, out=x)),
    ("ACTIVATIONS", "logistic", lambda x: fastact.sigmoid(x, out=x)),
    ("DERIVATIVES", "relu", lambda y, delta: fastact.relu_backward(delta, y, out=delta)),
    (
        "DERIVATIVES",
        "logistic",
        lambda y, delta: fastact.sigmoid_backward_from_output(delta, y, out=delta),
    ),
]


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


def replace(monkeypatch):
    """Put fastact's functions in the place of scikit-learn's; return the count of calls."""
    from sklearn.neural_network import _base

    calls = Counter()

    def counted(function, key):
        def call(*arrays):
            calls[key] += 1
            function(*arrays)

        return call

    for table, name, function in REPLACED:
        key = ("forward" if table == "ACTIVATIONS" else "backward", name)
        monkeypatch.setitem(getattr(_base, table), name, counted(function, key))
    return calls


# The number of epochs is fixed, so that both runs are of the same length: of course
# scikit-learn says that it has not converged.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("MLPClassifier", lambda labels: labels),
        # Two classes: the output layer is a sigmoid too.
        ("MLPClassifier", lambda labels: labels % 2),
        ("MLPRegressor", lambda labels: labels / 10),
    ],
    ids=["ten classes", "two classes", "regression"],
)
def test_training_goes_the_same_way(model, target, activation, dtype, digits, monkeypatch):
    from sklearn import neural_network

    images, labels = digits[0].astype(dtype), target(digits[1])
    if model == "MLPRegressor":
        labels = labels.astype(dtype)

    def train():
        network = getattr(neural_network, model)(
            hidden_layer_sizes=(32,) * HIDDEN,
            activation=activation,
            solver="adam",
            batch_size=BATCH,
            learning_rate_init=0.003,
            max_iter=40,
            random_state=0,
        )
        return network.fit(images[:TRAINED], labels[:TRAINED])

    def predict(network):
        if model == "MLPRegressor":
            return network.predict(images)
        return network.predict_proba(images)

    own = train()
    own_prediction, own_labels = predict(own), own.predict(images)
    calls = replace(monkeypatch)
    ours = train()

    batches = ours.n_iter_ * (TRAINED // BATCH)
    outputs = activation == "logistic" == ours.out_activation_
    assert calls["forward", activation] == batches * (HIDDEN + outputs)
    assert calls["backward", activation] == batches * HIDDEN
    before = calls["forward", activation]
    our_prediction = predict(ours)
    assert calls["forward", activation] == before + HIDDEN + outputs

    eps = float(np.finfo(dtype).eps)
    tolerance = {"rtol": TOLERANCE_IN_EPS * eps, "atol": TOLERANCE_IN_EPS * eps}
    np.testing.assert_allclose(ours.loss_curve_, own.loss_curve_, **tolerance)
    np.testing.assert_allclose(our_prediction, own_prediction, **tolerance)
    assert our_prediction.dtype == own_prediction.dtype == dtype
    if model == "MLPClassifier":
        assert np.array_equal(ours.predict(images), own_labels)
    # It has learned something: the comparison is not one of two networks that stand still.
    assert ours.loss_curve_[-1] < ours.loss_curve_[0] / 2
    assert ours.score(images[TRAINED:], labels[TRAINED:]) > (
        0.3 if model == "MLPRegressor" else 0.75
    )
