"""The chance that a label is wrong, from one training run: the noise posterior.

In come the softmax and the logits of all classes, added up by sample (N, C) over the first epochs, and the given labels
(N,). Out comes a `NoisePosterior`: chances (N,), the likely classes, how labels go wrong, and a verdict on whether that
can be told at all. The averaging window decides which epochs count; early statistics give the verdict; confident
learning and Bayes' rule do the rest.

It never looks at the inputs or trains, never makes another array of size N x C, and flags nothing where its verdict is
"undetermined". What it predicts of itself was measured on labels flipped on purpose, not on the errors of people.
"""

from aum_core.posterior.averaging_window import AveragingWindow
from aum_core.posterior.estimate import NoisePosterior

__all__ = ["AveragingWindow", "NoisePosterior"]
