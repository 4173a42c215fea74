"""Can relu be the last layer?
===========================

What a linear, a relu and a sigmoid ending can predict.

Autoencoders (64-32-64) learn to give back images they have not seen: scikit-learn's digits, 8x8
pixels of intensity 0 to 16. The targets are these intensities; the same less their mean, so
that many are negative; and the same divided by 16, for which sigmoid is also trained by
cross-entropy. All errors are in the intensities of 0 to 16.
"""

from typing import NamedTuple

import numpy as np
from shared.command import main
from sklearn.datasets import load_digits

from fastact.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid
from fastact.losses import BCEWithLogitsLoss, MSELoss
from fastact.optimizers import SGD

TRAINED, BATCH = 1400, 32  # of 1797 images; the rest is held out
ENDINGS = {
    "linear": (None, -np.inf, np.inf),
    "relu": (ReLU(), 0, np.inf),
    "sigmoid": (Sigmoid(), 0, 1),
}


class Finding(NamedTuple):
    """What came of one kind of targets and one ending, on the images held out."""

    error: float  # root mean square
    bound: float  # the least error of anything that stays in the range of the ending
    outside: float  # share of pixels predicted half a level or more beyond the targets' range
    stuck: int  # pixels of some variation that are predicted as one and the same in all images
    images: np.ndarray
    predicted: np.ndarray


def train(images, ending, loss, lr, epochs, seed):
    """Return an autoencoder trained on the images."""
    rng = np.random.default_rng(seed)
    # The hidden layer is leaky, so that no unit of it dies: all that differs is the last layer.
    model = Sequential(
        Linear(64, 32, LeakyReLU(0.3), seed=rng), Linear(32, 64, activation=ending, seed=rng)
    )
    optimizer = SGD(model, lr=lr, momentum=0.9)
    for _ in range(epochs):
        shuffled = rng.permutation(images)
        for i in range(0, len(images) - BATCH + 1, BATCH):
            batch = shuffled[i : i + BATCH]
            loss.forward(model.forward(batch), batch)
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
    return model


def rms(values):
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(epochs=40, seed=0):
    """Train all endings on all targets; return the findings by both names."""
    raw = load_digits().data.astype(np.float32)
    # Targets, what 1 of them is in intensities, and the learning rate: a gradient grows with
    # the square of the scale, so that this gives all of them the same steps.
    targets = {
        "0 to 16": (raw, 1, 1 / 256),
        "less the mean": (raw - raw[:TRAINED].mean(0), 1, 1 / 256),
        "0 to 1": (raw / 16, 16, 1),
    }
    findings = {}
    for name, (images, unit, lr) in targets.items():
        known, new = images[:TRAINED], images[TRAINED:]
        half_a_level = 0.5 / unit
        for ending, (activation, least, most) in ENDINGS.items():
            predictions = {ending: train(known, activation, MSELoss(), lr, epochs, seed)(new)}
            if (name, ending) == ("0 to 1", "sigmoid"):
                # This loss contains the sigmoid. The network ends before it.
                model = train(known, None, BCEWithLogitsLoss(), lr, epochs, seed)
                predictions["sigmoid, cross-entropy"] = activation(model(new))
            for label, predicted in predictions.items():
                low, high = known.min() - half_a_level, known.max() + half_a_level
                findings[name, label] = Finding(
                    error=unit * rms(predicted - new),
                    bound=unit * rms(new.clip(least, most) - new),
                    outside=float(np.mean((predicted < low) | (predicted > high))),
                    stuck=int(
                        np.sum((np.ptp(predicted, 0) == 0) & (np.std(new, 0) > half_a_level))
                    ),
                    images=unit * new,
                    predicted=unit * predicted,
                )
    return findings


def report(findings):
    """Print the findings."""
    print(f"{'targets':14} {'last layer':23} error  bound  outside  stuck  predicted")
    for (name, label), f in findings.items():
        print(
            f"{name:14} {label:23} {f.error:5.2f}  {f.bound:5.2f}  {f.outside:6.1%}  {f.stuck:5}"
            f"  {f.predicted.min():.1f} to {f.predicted.max():.1f}"
        )
    print(
        """
error    root mean square on images held out, in intensities of 0 to 16 (0 to 1: times 16)
bound    what nothing in the range of that last layer can get below
outside  share of pixels predicted half a level or more beyond what the targets can be
stuck    pixels predicted as the same in every image: a dead relu, a saturated sigmoid

Linear predicts any number: right for targets of either sign; but it gives intensities that no
image has. Relu predicts nothing below 0: right for amounts of any size, though units of it may
die, and wrong for targets below 0. Sigmoid stays between 0 and 1: useless for 0 to 16 and for
targets below 0; right for shares and probabilities, and trained better by cross-entropy."""
    )


def draw(findings, path):
    """Draw reconstructions of the first images held out."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    gray = colormaps["gray"].with_extremes(under="#0072b2", over="#e69f00", bad="white")
    intensity = "intensity (blue: below 0, orange: above 16)", gray, -0.5, 16.5, (0, 4, 8, 12, 16)
    signed = "intensity less its mean", "PuOr", -16, 16, (-16, -8, 0, 8, 16)
    columns = {
        "0 to 16": ("targets of 0 to 16", *intensity),
        "less the mean": ("targets less the mean", *signed),
        "0 to 1": ("targets of 0 to 1 (shown times 16)", *intensity),
    }
    figure = Figure(figsize=(10, 6), layout="constrained", dpi=110)
    figure.suptitle("Relu predicts nothing below 0, sigmoid nothing but 0 to 1 (numbers: errors)")
    panels = figure.subplots(5, 3, gridspec_kw={"wspace": 0.06})
    for column, (name, (title, label, colors, low, high, ticks)) in zip(
        panels.T, columns.items(), strict=True
    ):
        rows = {label: f for (targets, label), f in findings.items() if targets == name}
        strips = [(title, rows["linear"].images)]
        strips += [(f"{label}: {f.error:.2f}", f.predicted) for label, f in rows.items()]
        for panel in column:
            panel.axis("off")
        for panel, (text, images) in zip(column, strips, strict=False):
            # Five images side by side, with a blank column behind each.
            tiles = np.pad(
                images[:5].reshape(5, 8, 8), ((0, 0), (0, 0), (0, 1)), constant_values=np.nan
            )
            picture = panel.imshow(np.hstack(tiles)[:, :-1], colors, vmin=low, vmax=high)
            panel.set_title(text, fontsize=9, weight="bold" if text == title else None)
        extend = "both" if name != "less the mean" else "neither"
        bar = figure.colorbar(picture, ax=column, location="bottom", shrink=0.9, extend=extend)
        bar.set_label(label, fontsize=9)
        bar.set_ticks(ticks)
    figure.savefig(path)


if __name__ == "__main__":
    main(globals(), epochs=40)
