"""Wrong labels on purpose: the way to know how many of them a search finds.

In come the given labels (N,). Out come noisy ones, with a mask of those that differ; or, by `self_check`, how many of
the flipped labels somebody's search has found.

It never changes the labels that it is given, and never says how many labels were wrong before.
"""

from aum_core.noise.flips import flip_by_matrix, flip_instance_dependent, flip_pairs, flip_uniform
from aum_core.noise.self_check import self_check

__all__ = ["flip_by_matrix", "flip_instance_dependent", "flip_pairs", "flip_uniform", "self_check"]
