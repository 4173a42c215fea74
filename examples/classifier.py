"""What the outputs of a classifier mean
=====================================

Sigmoid and softmax as the last layer, and whether their outputs are probabilities.

scikit-learn's digits, classified three times: which of the ten digits an image shows, with softmax
at the end; whether that is odd, with sigmoid; and the latter by a larger network that is trained
for too long on noisy images. All figures are of images held out: each classifier is trained five
times, without a fifth of the images each time, and those it then classifies.

Is an output of 0.8 a probability? Yes, if 80 % of the images given about 0.8 are what it says.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from shared.command import main
from sklearn.datasets import load_digits

from fastact.layers import Linear, ReLU, Sequential, Sigmoid, Softmax
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss
from fastact.optimizers import SGD

FOLDS, BATCH = 5, 32
BINS = np.array([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])


class Finding(NamedTuple):
    """What came of one classifier, on images held out; arrays by bin of the probability."""

    accuracy: float
    said: np.ndarray  # the mean of the probabilities given
    true: np.ndarray  # the share of them that were true
    count: np.ndarray  # their number
    gap: float  # mean distance of said and true, over all


def train(model, loss, images, labels, epochs, rng):
    """Train a model that ends in logits, because the losses contain sigmoid and softmax."""
    optimizer = SGD(model, lr=0.05, momentum=0.9)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for i in range(0, len(images) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            loss.forward(model.forward(images[batch]), labels[batch])
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()


def held_out(sizes, loss, last, images, labels, epochs, rng):
    """Classify every image by a network that was trained without it; return the probabilities."""
    fold = rng.permutation(len(images)) % FOLDS
    probabilities = np.empty((len(images), sizes[-1]))
    for k in range(FOLDS):
        *hidden, end = pairwise(sizes)
        layers = [Linear(*size, ReLU(), seed=rng) for size in hidden]
        model = Sequential(*layers, Linear(*end, seed=rng))
        train(model, loss, images[fold != k], labels[fold != k], epochs, rng)
        probabilities[fold == k] = last(model(images[fold == k]))
    return probabilities


def compare(accuracy, probability, true):
    """Compare the probabilities given with how often they were true, bin by bin."""
    which = np.digitize(probability, BINS[1:-1])
    bins = [which == i for i in np.unique(which)]
    said, share = (np.array([values[b].mean() for b in bins]) for values in (probability, true))
    count = np.array([b.sum() for b in bins])
    gap = np.average(np.abs(said - share), weights=count)
    return Finding(float(accuracy), said, share, count, float(gap))


def run(epochs=10, seed=0):
    """Train and test the three classifiers; return the findings by name."""
    rng = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    noisy = images + rng.normal(0, 0.3, images.shape).astype(np.float32)
    odd = (digits % 2)[:, None]

    p = held_out((64, 32, 10), CrossEntropyLoss(), Softmax(), images, digits, epochs, rng)
    shown = digits[:, None] == np.arange(10)  # each of the ten probabilities is to be true
    findings = {"which digit, softmax": compare(np.mean(p.argmax(1) == digits), p, shown)}
    for name, sizes, x, n in (
        ("odd or even, sigmoid", (64, 1), images, epochs),
        ("the same, noisy, trained too long", (64, 32, 1), noisy, 10 * epochs),
    ):
        p = held_out(sizes, BCEWithLogitsLoss(), Sigmoid(), x, odd, n, rng)
        findings[name] = compare(np.mean((p > 0.5) == odd), p, odd)
    return findings


def report(findings):
    """Print the findings."""
    for name, f in findings.items():
        print(f"{name}: {f.accuracy:.1%} of the images held out are classified rightly")
        print("  probability given  " + "".join(f"{p:7.2f}" for p in f.said))
        print("  share that is true " + "".join(f"{p:7.2f}" for p in f.true))
        print("  number of cases    " + "".join(f"{n:7}" for n in f.count))
        print(f"  in the mean over all, they are {f.gap:.3f} apart\n")
    print(
        f"""Sigmoid for one yes or no, softmax for one of many: cross-entropy is least where their
outputs are true probabilities. But it is that of the images trained with. A network that learns
those by heart, as the last one, says {f.said[-1]:.3f} where {f.true[-1]:.3f} is true."""
    )


def draw(findings, path):
    """Draw the share that is true over the probability that was given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.6), layout="constrained", dpi=110)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="a true probability")
    styles = zip(findings.items(), ("#0072b2", "#009e73", "#d55e00"), "osD", strict=True)
    for (name, f), color, marker in styles:
        error = 2 * np.sqrt(f.true * (1 - f.true) / f.count)
        label = f"{name} ({f.accuracy:.1%} right)"
        panel.errorbar(f.said, f.true, error, color=color, marker=marker, capsize=3, label=label)
    panel.set_xlabel("probability given to images held out")
    panel.set_ylabel("share of which it was true (bars: two standard errors)")
    panel.set_title("Of the cases given p, p are true, unless trained too long")
    panel.set_aspect("equal")
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main(globals(), epochs=10)
