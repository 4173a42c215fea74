"""What activations do to gradients
================================

On their way back through ten layers, gradients shrink, end, or are kept.

The networks classify scikit-learn's digits: ten hidden layers of 64 units, then one of ten. Their
gradients before any training tell what the first layers get to learn from. Then all units of one
layer are switched off, as a step too large may do, and the networks are trained: do the
units come back? Last, the gradient of one sigmoid, computed from its input and from its output.
"""

from typing import NamedTuple

import numpy as np
from shared.command import main
from sklearn.datasets import load_digits

import fastact
from fastact.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid
from fastact.losses import CrossEntropyLoss
from fastact.optimizers import SGD

HIDDEN, WIDTH, TRAINED, BATCH = 10, 64, 1400, 32
OFF = 4  # index of the layer that is switched off, the fifth
SLOPES = (0, 0.01, 0.1, 0.3)
INPUTS = np.float32([-20, -5, 0, 5, 10, 16, 17, 20])


class Findings(NamedTuple):
    """What came of it."""

    gradients: dict[str, np.ndarray]  # by activation: magnitude of the weights' gradient by layer
    dead: dict[str, int]  # by activation: units that are off for every image, before any training
    silent: dict[str, int]  # those of them whose weights get no gradient at all
    below: dict[float, float]  # by slope: magnitude of the first layer's gradient, one layer off
    still_off: dict[float, int]  # by slope: units of that layer that are off after training
    accuracy: dict[float, float]  # by slope: on images held out


def make(activation, rng):
    """Make a network."""
    hidden = [Linear(64, WIDTH, activation, seed=rng) for _ in range(HIDDEN)]
    return Sequential(*hidden, Linear(WIDTH, 10, seed=rng))


def rms(values):
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def weight_gradients(model, images, digits):
    """Compute the gradients of the hidden layers' weights."""
    loss = CrossEntropyLoss()
    loss.forward(model.forward(images), digits)
    model.backward(loss.backward(), input_gradient=False)
    return [layer.gradients()["weight"] for layer in model[:HIDDEN]]


def units_off(model, images):
    """Return by hidden layer which units are off, at 0 or less before relu, for all images."""
    off, x = [], images
    for layer in model[:HIDDEN]:
        off.append(~np.any(x @ layer.weight.T + layer.bias > 0, axis=0))
        x = layer(x)
    return off


def train(model, images, digits, epochs, rng):
    """Train a network."""
    loss, optimizer = CrossEntropyLoss(), SGD(model, lr=0.01, momentum=0.9)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for i in range(0, len(images) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            loss.forward(model.forward(images[batch]), digits[batch])
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()


def run(epochs=20, seed=0):
    """Measure gradients, dead units, and who recovers."""
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    f = Findings({}, {}, {}, {}, {}, {})
    for name, activation in {
        "sigmoid": Sigmoid(),
        "relu": ReLU(),
        "leaky relu, slope 0.01": LeakyReLU(0.01),
        "leaky relu, slope 0.3": LeakyReLU(0.3),
    }.items():
        model = make(activation, np.random.default_rng(seed))
        gradients = weight_gradients(model, images, digits)
        off = np.stack(units_off(model, images))
        f.gradients[name] = np.array([rms(g) for g in gradients])
        # A sigmoid is never off: below 0 it is merely small.
        f.dead[name] = 0 if name == "sigmoid" else int(off.sum())
        f.silent[name] = int(np.sum(off & ~np.stack(gradients).any(-1)))
    for slope in SLOPES:
        rng = np.random.default_rng(seed)
        model = make(LeakyReLU(slope), rng)
        model[OFF].bias[:] = -5
        f.below[slope] = rms(weight_gradients(model, images, digits)[0])
        train(model, images[:TRAINED], digits[:TRAINED], epochs, rng)
        f.still_off[slope] = int(units_off(model, images)[OFF].sum())
        right = model(images[TRAINED:]).argmax(1) == digits[TRAINED:]
        f.accuracy[slope] = float(right.mean())
    return f


def sigmoid_gradients(x):
    """Return the gradient of sigmoid from its float32 input, from its output, and in float64."""
    one = np.ones_like(x)
    from_input = fastact.sigmoid_backward(one, x)
    from_output = fastact.sigmoid_backward_from_output(one, fastact.sigmoid(x))
    return from_input, from_output, fastact.sigmoid_backward(1.0, x.astype(np.float64))


def report(f):
    """Print the findings."""
    print("Gradient of the weights, untrained: root mean square, layer by layer")
    print(
        f"  {'layer':24}"
        + "".join(f"{i + 1:9}" for i in range(0, HIDDEN, 3))
        + "  off  learn nothing"
    )
    for name, g in f.gradients.items():
        values = "".join(f"{v:9.0e}" for v in g[::3])
        print(f"  {name:24}{values}{f.dead[name]:5}{f.silent[name]:15}")
    fall = (f.gradients["sigmoid"][-1] / f.gradients["sigmoid"][0]) ** (1 / (HIDDEN - 1))
    print(
        f"""
The slope of sigmoid is 1/4 at most: a layer leaves some 1/{fall:.0f} of the gradient, and next to
nothing reaches the first ones. That of relu is 1 or 0: what comes through is not weakened. But
units that are off for every image (of {HIDDEN * WIDTH}) get none; leaky relu gives them some.

All {WIDTH} units of layer {OFF + 1} switched off (bias -5), then trained:
  slope   gradient of layer 1   still off   right on images held out"""
    )
    for slope in SLOPES:
        print(
            f"  {slope:5} {f.below[slope]:21.1e} {f.still_off[slope]:11} {f.accuracy[slope]:15.1%}"
            + ("   (relu)" if slope == 0 else "")
        )
    print("\nGradient of sigmoid in float32:")
    print("      x   from the input  from the output   relative errors")
    for x, i, o, exact in zip(INPUTS, *sigmoid_gradients(INPUTS), strict=True):
        errors = f"{abs(i - exact) / exact:.0e}, {abs(o - exact) / exact:.0e}"
        print(f"  {x:5.0f} {i:16.2e} {o:16.2e}   {errors}")
    print(
        "Near 1 the output has lost what its input was: from it, a unit that is wrongly confident\n"
        "in yes gets no gradient, while one that is wrongly confident in no does."
    )


def draw(f, path):
    """Draw the gradients by layer, the units that stay off, and the gradients of a sigmoid."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.4), layout="constrained", dpi=110)
    figure.suptitle(
        "Gradients on the way back: sigmoid shrinks them, relu may end them, leaky relu keeps them"
    )
    left, middle, right = figure.subplots(1, 3)
    styles = zip(
        f.gradients.items(), ("#d55e00", "#0072b2", "#009e73", "#cc79a7"), "os^D", strict=True
    )
    for (name, g), color, marker in styles:
        size = 9 if name == "relu" else 5  # to be seen behind a leaky one
        left.semilogy(
            range(1, HIDDEN + 1), g, color=color, marker=marker, markersize=size, label=name
        )
    left.set(
        xlabel="layer",
        ylabel="gradient of the weights (root mean square)",
        xticks=range(1, HIDDEN + 1),
    )
    left.set_title("Sigmoid starves the first layers", fontsize=11)
    left.legend(fontsize=9)
    bars = middle.bar([str(s) for s in SLOPES], [f.still_off[s] for s in SLOPES], color="#0072b2")
    middle.bar_label(bars, [f"{f.accuracy[s]:.0%} right" for s in SLOPES], fontsize=9)
    middle.set(
        xlabel="negative slope (0: relu)", ylabel=f"units still off after training, of {WIDTH}"
    )
    middle.set_ylim(0, WIDTH * 1.12)
    middle.set_title("A relu layer that is off stays off", fontsize=11)
    x = np.linspace(-30, 30, 2401, dtype=np.float32)
    from_input, from_output, _ = sigmoid_gradients(x)
    right.semilogy(x, from_input, color="#0072b2", linewidth=3, label="from the input")
    shown = np.where(from_output > 0, from_output, np.nan)
    right.semilogy(x, shown, color="#e69f00", linewidth=1.3, label="from the output")
    end = x[from_output > 0].max()
    arrow = {"arrowstyle": "->"}
    right.annotate(
        f"0 from x = {end:.1f} on", (end, 6e-8), (0, 5e-10), ha="center", arrowprops=arrow
    )
    right.set(xlabel="x", ylabel="gradient of sigmoid, float32")
    right.set_title("The output forgets a large x", fontsize=11)
    right.legend(fontsize=9, loc="lower center", frameon=False)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path)


if __name__ == "__main__":
    main(globals(), epochs=20)
