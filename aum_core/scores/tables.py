"""The files of the other scores and of the noise posterior, beside the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aum_core.files.tables import ranked, write_table
from aum_core.posterior.tables import write_posterior

if TYPE_CHECKING:
    from pathlib import Path

    from aum_core.scores.scores import Scores
    from aum_core.totals import Totals

__all__ = ["write_scores"]


def write_scores(folder: Path, totals: Totals, scores: Scores) -> dict[str, Any]:
    """Write ``scores.csv``, and the files of the noise posterior where it is kept; what ``run.json`` has of them."""
    told = scores.describe()
    if scores.names:
        columns = {"sample_id": totals.sample_ids, "aum": totals.aums, **scores}
        write_table(folder / "scores.csv", columns, ranked(totals.aums))
    if scores.keeps_posterior and len(totals):
        posterior = scores.noise_posterior()
        write_posterior(folder, totals.sample_ids, scores.labels, posterior)
        told["noise_posterior"] = posterior.describe()
    return told
