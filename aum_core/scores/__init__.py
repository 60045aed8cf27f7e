"""What else a forward pass tells of a sample: data maps, EL2N, forgetting and their kin, each defined by epochs.

In comes a checked batch with its rows in the totals, or the sums of a whole epoch that was measured on a device; out
come scores of shape (N,) by name. `Needs` says what of a measurement has to be added up, `columns` how, `EpochSums`
what one epoch brought, `Scores` what the epochs make.

It never looks at files of a run but to write its own, never guesses a label, and knows nothing of what is made of the
scores: no cut-off, no verdict.
"""

from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.kinds import SCORES
from aum_core.scores.needs import Needs, columns
from aum_core.scores.scores import Scores

__all__ = ["SCORES", "EpochSums", "Needs", "Scores", "columns"]
