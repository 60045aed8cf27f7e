"""The files of the noise posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.files.tables import write_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["write_posterior"]


def write_posterior(
    folder: Path,
    sample_ids: NDArray[Any],
    labels: NDArray[np.int64],
    posterior: NoisePosterior,
    class_names: NDArray[Any] | None = None,
    *,
    flagged: NDArray[np.bool_] | None = None,
) -> None:
    """Write ``noise_posterior.csv``, most suspicious first, and ``transition.csv``, a row for each true class.

    Flagged is what another cut flagged, where there was one.
    """
    names = np.arange(len(posterior.transition)) if class_names is None else class_names
    named = np.append(names.astype(object), "")  # -1 is unknown, and comes out empty
    columns = {
        "sample_id": sample_ids,
        "given_label": named[labels],
        "suggested_label": named[posterior.suggested],
        "probability_wrong": posterior.probabilities,
        "flagged": (posterior.flagged if flagged is None else flagged).astype(np.int64),
    }
    write_table(folder / "noise_posterior.csv", columns, posterior.most_suspicious())
    by_given = dict(zip(map(str, names.tolist()), posterior.transition.T, strict=True))
    write_table(folder / "transition.csv", {"true_label": names, **by_given}, np.arange(len(names)))
