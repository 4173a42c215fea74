"""Why not stay linear?
====================

What a relu between two layers, and in every layer, makes of a network.

On two tasks: is a point of the square inside a disc, answered by four hidden units; and is one of
scikit-learn's digits odd. All accuracies are of points and images that were held out.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from shared.command import main
from sklearn.datasets import load_digits

from fastact.layers import Linear, ReLU, Sequential, Sigmoid
from fastact.losses import BCEWithLogitsLoss, MSELoss
from fastact.optimizers import SGD

POINTS, IMAGES, BATCH = 1000, 1400, 32  # to train with
STARTS = 5  # on the disc: of four units none is to spare, and from a bad start one may die
RADIUS = np.sqrt(2 / np.pi)  # the disc is half of the square
NETWORKS = {"no nonlinearity": None, "only at the output": None, "in every layer": ReLU()}


class Findings(NamedTuple):
    """What came of it."""

    collapsed: float  # difference of two linear layers and one, over the largest output
    with_relu: float  # the same, with a relu between the two
    linear_bound: float  # the least root mean square error of any linear network, on the disc
    error: dict[str, float]  # root mean square error on the same points
    accuracy: dict[tuple[str, str], float]  # by task and network
    networks: dict[str, Sequential]  # those of the disc


def collapse(rng):
    """Make one layer of two; return how far it is off, without and with a relu between them."""
    images = load_digits().data
    distances = []
    for activation in (None, ReLU()):
        first = Linear(64, 32, activation, dtype="float64", seed=rng)
        second = Linear(32, 10, dtype="float64", seed=rng)
        first.bias[:], second.bias[:] = rng.normal(size=32), rng.normal(size=10)
        # W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)
        one = Linear(64, 10, dtype="float64")
        weight, bias = second.weight @ first.weight, second.weight @ first.bias + second.bias
        one.load_state_dict({"weight": weight, "bias": bias})
        outputs = Sequential(first, second)(images)
        distances.append(float(np.abs(one(images) - outputs).max() / np.abs(outputs).max()))
    return distances


def train(sizes, name, x, y, epochs, rng):
    """Train a network to answer yes or no; return it."""
    *hidden, end = pairwise(sizes)
    layers = [Linear(*size, NETWORKS[name], seed=rng) for size in hidden]
    model = Sequential(*layers, Linear(*end, seed=rng))
    # Cross-entropy contains the sigmoid, which is the nonlinearity at the output.
    loss = MSELoss() if name == "no nonlinearity" else BCEWithLogitsLoss()
    optimizer = SGD(model, lr=0.02 if name == "no nonlinearity" else 0.1, momentum=0.9)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            loss.forward(model.forward(x[batch]), y[batch])
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
    return model if name == "no nonlinearity" else Sequential(*model, Sigmoid())


def run(epochs=50, seed=0):
    """Train all networks; return the findings."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (3 * POINTS, 2)).astype(np.float32)
    inside = (np.sum(points**2, 1, keepdims=True) < RADIUS**2).astype(np.float32)
    images, digits = load_digits(return_X_y=True)
    odd = (digits[:, None] % 2).astype(np.float32)
    images = (images / 16).astype(np.float32)
    tasks = {
        "disc": (points, inside, POINTS, (2, 4, 1), STARTS, epochs),
        "odd digits": (images, odd, IMAGES, (64, 32, 32, 1), 1, epochs // 2),
    }
    accuracy, error, networks = {}, {}, {}
    for task, (x, y, n, sizes, starts, length) in tasks.items():
        for name in NETWORKS:
            models = [train(sizes, name, x[:n], y[:n], length, rng) for _ in range(starts)]
            errors = [np.sqrt(MSELoss()(model(x[:n]), y[:n])) for model in models]
            model = models[np.argmin(errors)]
            accuracy[task, name] = float(np.mean((model(x[n:]) > 0.5) == y[n:]))
            if task == "disc":
                networks[name], error[name] = model, float(min(errors))
    # Any stack of linear layers is one, and of one layer the best is known.
    known = np.c_[points[:POINTS], np.ones(POINTS)]
    best = known @ np.linalg.lstsq(known, inside[:POINTS])[0]
    bound = float(np.sqrt(np.mean((best - inside[:POINTS]) ** 2)))
    return Findings(*collapse(rng), bound, error, accuracy, networks)


def regions(model, grid):
    """Return which units of the first layer are on, as the bits of a number, point by point."""
    return (model[0](grid) > 0) @ (1 << np.arange(model[0].out_features))


def square(n):
    """Return n x n points of the square, and their coordinates."""
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    return axis, np.stack(np.meshgrid(axis, axis), -1)


def report(f):
    """Print the findings."""
    which = regions(f.networks["in every layer"], square(400)[1])
    pieces = len(np.unique(which))
    lines = sum(len(np.unique(which >> i & 1)) == 2 for i in range(4))
    print(
        f"""Two linear layers against the one that they make together, by the largest output:
they differ by {f.collapsed:.0e}, which is rounding; with a relu between them, by {f.with_relu:.2f}.

Is a point inside the disc? Root mean square error of the answer, on the points trained with:
  least of any linear network     {f.linear_bound:.3f}  (always 1/2 has 0.500)"""
    )
    for name, error in f.error.items():
        print(f"  {name:31} {error:.3f}")
    print(f"\n{'Right on what was held out':27}  disc  odd digits")
    for name in NETWORKS:
        disc, odd = (f.accuracy[task, name] for task in ("disc", "odd digits"))
        print(f"  {name:25} {disc:.1%}  {odd:10.1%}")
    print(
        f"""
Four relu units cut the square along {lines} lines into {pieces} pieces. On each piece the network
is another linear function before its sigmoid: so it goes round the disc. With a sigmoid at the
output alone, all layers before it are still one, and it can only draw a straight line: enough
for most of the digits, of no use for the disc."""
    )


def draw(f, path):
    """Draw what two networks answer on the square, and how four relu units cut it."""
    from matplotlib.figure import Figure

    axis, grid = square(400)
    relu = f.networks["in every layer"]
    figure = Figure(figsize=(11, 4.1), layout="constrained", dpi=110)
    figure.suptitle("Inside the disc? Without a nonlinearity between the layers, nothing is bent")
    panels = figure.subplots(1, 3, sharey=True)
    for panel, name, title in (
        (panels[0], "only at the output", "sigmoid only at the output"),
        (panels[2], "in every layer", "relu in between, too"),
    ):
        answer = f.networks[name](grid)[..., 0]
        shown = panel.pcolormesh(axis, axis, answer, cmap="cividis", vmin=0, vmax=1)
        panel.set_title(f"{title}: {f.accuracy['disc', name]:.1%} right", fontsize=11)
    bar = figure.colorbar(shown, ax=panels[2], shrink=0.8)
    bar.set_label("probability given for being inside")
    which = regions(relu, grid)
    panels[1].pcolormesh(axis, axis, np.bitwise_count(which), cmap="Blues", vmin=-0.5, vmax=6)
    for i in range(4):
        panels[1].contour(axis, axis, relu[0](grid)[..., i] > 0, levels=[0.5], colors="black")
    for code in np.unique(which):
        x, y = grid[which == code].mean(0)
        if np.mean(which == code) > 0.01:
            units = [str(i + 1) for i in range(4) if code >> i & 1]
            panels[1].text(x, y, " ".join(units) or "none", ha="center", va="center")
    panels[1].set_title(f"four relu units: {len(np.unique(which))} pieces", fontsize=11)
    angle = np.linspace(0, 2 * np.pi, 200)
    for panel in panels:
        panel.plot(RADIUS * np.cos(angle), RADIUS * np.sin(angle), color="#d55e00", linestyle="--")
        panel.set_aspect("equal")
        panel.set_xlabel("first input (dashed: the disc)")
        panel.set_xticks([-1, 0, 1])
        panel.set_yticks([-1, 0, 1])
    panels[1].set_xlabel("first input (numbers: the units that are on)")
    panels[0].set_ylabel("second input")
    figure.savefig(path)


if __name__ == "__main__":
    main(globals(), epochs=50)
