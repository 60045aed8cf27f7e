"""The callback: what happens when, in the course of a fit."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

import aum_core
from aum.keras.attachment import attach, build_without_ids, detach
from aum.keras.checkpoint import Checkpoint
from aum.keras.logits import find_activation, find_num_classes
from aum.keras.state import MarginSums

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import numpy as np

    from aum_core.ids import SampleId
    from aum_core.posterior.averaging_window import KeepPosterior

__all__ = ["AUMCallback"]


class AUMCallback(keras.callbacks.Callback):
    """Measures the margin of every training sample inside the training step of ``model.fit``.

    The margins are those of the step's own forward pass, before the weights change: there is no second one. Validation
    is not measured. Between epochs the callback keeps sums and counts in float64 and saves them beside the run's files,
    so that a fit that resumes at epoch e, by `BackupAndRestore` or ``initial_epoch``, goes on with them as they were
    then. It adds ``aum`` (the mean over samples) and ``aum_negative`` (the share below zero) to the epoch's logs:
    put it before the callbacks that read them. A callback is one run: where it is used in a second `fit`, it goes on
    counting; a new one begins anew.

    Parameters
    ----------
    save_dir : str, path or AUMCalculator
        Folder of the files that are written at the end of `fit`. A calculator, such as `find_mislabeled` gives to its
        ``train``, takes the totals instead, and no files are written; one that keeps other scores takes each epoch as
        it ends.
    model : keras.Model
        Compiled, with one output: logits, or a softmax or sigmoid of them; C columns, or one for a binary model (whose
        logit z is the two logits [0, z]). Labels are class indices or one-hot.
    num_samples : int
        N: sample ids are rows in [0, N), as `with_ids` gives them. Others are left out and counted.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files.
    start_epoch : int, default 0
        First epoch that counts, as Keras numbers them from 0. The authors of the method leave out the first epoch (1).
    stop_epoch : int, optional
        First epoch that no longer counts. Let it be where the learning rate first drops: after that a network learns
        its wrong labels by heart, and their margins no longer differ (Pleiss et al. 2020, arXiv 2001.10528, section 3).
    from_logits : bool, optional
        Whether the model's output is logits, where loss and last layer do not tell.
    output_layer : keras.layers.Layer, optional
        The layer with the softmax or sigmoid, where a subclassed model has several. Its input is measured, so that
        margins are exact where probabilities saturate.
    scores : iterable of str, default ()
        Other scores to keep, as `aum_core.AUMCalculator` has them; they come into ``scores.csv`` beside the ranking.
    noise_posterior : bool or "on_disk", default False
        Whether to estimate how likely each label is wrong, into ``noise_posterior.csv`` and ``transition.csv``. It
        takes 8 bytes for each sample and class on the device, 8 on the host, and 8 in each of the two files from which
        a fit resumes.
    num_classes : int, optional
        C, where the noise posterior needs it and a subclassed model does not tell.

    Raises
    ------
    ValueError
        For options that do not fit; in `fit`, at the first step, for inputs without sample ids, at the end of the first
        epoch that counts, where nothing was counted.

    Notes
    -----
    What it cannot do: an epoch broken off by an error is not counted at all; resuming in the middle of an epoch
    (``BackupAndRestore(save_freq=100)``) measures that epoch from its beginning, as Keras trains it; resuming at an
    older epoch than the last two finds no sums and warns; with a calculator there are none to resume from. Samples
    with soft labels count under their most likely class. A training step of the model's own has to call
    ``self.compute_loss``. Two of them cannot measure one model at once.

    Examples
    --------
    >>> import tempfile
    >>> import keras, numpy as np
    >>> from aum.keras import AUMCallback, with_ids
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.eye(2, dtype="float32"), np.array([0, 2])
    >>> callback = AUMCallback(tempfile.mkdtemp(), model, num_samples=2)
    >>> history = model.fit(with_ids(x), y, epochs=3, callbacks=[callback], verbose=0)
    >>> callback.totals.counts
    array([3, 3])
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | aum_core.AUMCalculator,
        model: keras.Model,
        num_samples: int,
        *,
        sample_ids: Sequence[SampleId] | np.ndarray[Any, Any] | None = None,
        start_epoch: int = 0,
        stop_epoch: int | None = None,
        from_logits: bool | None = None,
        output_layer: keras.layers.Layer | None = None,
        scores: Iterable[str] = (),
        noise_posterior: KeepPosterior = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if start_epoch < 0 or (stop_epoch is not None and stop_epoch <= start_epoch):
            raise ValueError(
                f"start_epoch, stop_epoch: {start_epoch}, {stop_epoch}, want 0 <= start_epoch < stop_epoch"
            )
        calculator = _calculator(save_dir, scores, noise_posterior)
        self._checkpoint = Checkpoint(num_samples, sample_ids, calculator)
        self._given, self._save_dir, self._num_samples, self._num_classes = model, save_dir, num_samples, num_classes
        self._start_epoch, self._stop_epoch = start_epoch, stop_epoch
        self._from_logits, self._output_layer = from_logits, output_layer
        self._warned = False
        build_without_ids(model)

    @property
    def totals(self) -> aum_core.Totals:
        """Totals of all samples that were measured, by row; those of an epoch are in when it has ended."""
        return self._checkpoint.totals()

    @property
    def calculator(self) -> aum_core.AUMCalculator:
        """The calculator with the other scores that were asked for: ``calculator.scores``, ``noise_posterior()``.

        Its rows are those of its own totals: samples in the order in which they were first measured.

        Raises
        ------
        AttributeError
            Where none were asked for.
        """
        if self._checkpoint.calculator is None:
            raise AttributeError('a calculator is kept only by AUMCallback(..., scores=["confidence"]), say')
        return self._checkpoint.calculator

    def on_train_begin(self, logs: Any = None) -> None:
        """Put the measurement into the step.

        Raises
        ------
        ValueError
            Where it cannot be put there, or `fit` ends before the first epoch that counts.
        """
        model = self.model
        if model is not self._given:
            raise ValueError("model: fit with another model than the callback was made with")
        if self.params["epochs"] <= self._start_epoch:
            raise ValueError(
                f"start_epoch: {self._start_epoch}, but fit ends before it, with epochs={self.params['epochs']}"
            )
        detach(model)  # what a fit that was broken off has left
        activation_layer = find_activation(model, self._from_logits, self._output_layer)
        self._sums = self._make_sums(model)
        self._passing = attach(model, self._sums, activation_layer)
        self._resumed = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go on from where the first epoch of this fit begins, and clear the sums on the device."""
        if not self._resumed:
            self._checkpoint.resume(epoch, self._folder)
            self._resumed = True
        self._sums.zero()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """See, after the first step, that it was one that measures."""
        if batch and not self._passing.measured:
            self._fail_unmeasured()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Bring the sums of the epoch home."""
        if not self._passing.measured:
            self._fail_unmeasured()
        _ = self.model  # has Keras put the state of JAX back into the variables
        sums, counts, left_out = self._sums.bring_home()
        if not counts.any() and not left_out[1]:
            self._fail(
                f"sample_ids: all {left_out[0]} rows of epoch {epoch} were left out; want ids in "
                f"[0, {self._num_samples}), as with_ids gives them, and targets that are classes of the model's output"
            )
        if self._start_epoch <= epoch and (self._stop_epoch is None or epoch < self._stop_epoch):
            calculator = self._checkpoint.calculator
            whole = None if calculator is None else self._sums.epoch(sums, counts, left_out, calculator.needs)
            self._checkpoint.add(sums, counts, left_out, whole)
            self._warn()
            if logs is not None:
                logs.update(self._summary())
        self._checkpoint.save(epoch, self._folder)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the model as it was, and write the files."""
        detach(self.model)
        run, totals = self._checkpoint.calculator, self.totals
        if isinstance(self._save_dir, aum_core.AUMCalculator):
            if run is None:
                self._save_dir.add_totals(totals)
            self._checkpoint.clear()
            return
        if not isinstance(run, _Run) or not len(totals):  # of nothing there are no scores
            run = _Run(self._save_dir)
            run.add_totals(totals)
        run.description = self._describe()
        run.finalize()

    @property
    def _folder(self) -> Path | None:
        return None if isinstance(self._save_dir, aum_core.AUMCalculator) else Path(self._save_dir)

    def _make_sums(self, model: Any) -> MarginSums:
        calculator = self._checkpoint.calculator
        needs = None if calculator is None else calculator.needs
        num_classes = self._num_classes
        if needs is not None and needs.has_matrices:
            num_classes = num_classes or find_num_classes(model)
        strategy = getattr(model, "distribute_strategy", None)
        with strategy.scope() if strategy else nullcontext():
            return MarginSums(self._num_samples, needs, num_classes)

    def _fail_unmeasured(self) -> None:
        if not self._passing.ids_came:
            self._fail(
                "x: it has no sample ids, so nothing can be measured; want fit(with_ids(x), y, ...), or with_ids around"
                " the data set before it is shuffled and batched"
            )
        self._fail(
            "model: its train_step does not call self.compute_loss(x, y, y_pred, sample_weight), where the margins are "
            "measured"
        )

    def _fail(self, message: str) -> None:
        detach(self.model)
        raise ValueError(message)

    def _warn(self) -> None:
        by_id, by_margin = self._checkpoint.left_out.tolist()
        if self._warned or not (by_id or by_margin):
            return
        self._warned = True
        warnings.warn(
            f"{by_id} measurements had an id outside [0, {self._num_samples}) or a target that is no class, {by_margin}"
            " a margin that is not finite. They are left out and counted (totals.left_out); further ones without a "
            "warning.",
            RuntimeWarning,
            stacklevel=3,
        )

    def _summary(self) -> dict[str, float]:
        seen = self._checkpoint.counts > 0
        aums = self._checkpoint.sums[seen] / self._checkpoint.counts[seen]
        return {"aum": float(aums.mean()), "aum_negative": float((aums < 0).mean())} if len(aums) else {}

    def _describe(self) -> dict[str, Any]:
        by_id, by_margin = self._checkpoint.left_out.tolist()
        scores = {} if self._checkpoint.calculator is None else self._checkpoint.calculator.describe()["options"]
        return {
            "framework": f"keras on {keras.backend.backend()}",
            "left_out_by": {"id_or_target": by_id, "nonfinite": by_margin},
            "options": {
                **{name: scores[name] for name in ("scores", "noise_posterior") if name in scores},
                "num_samples": self._num_samples,
                "start_epoch": self._start_epoch,
                "stop_epoch": self._stop_epoch,
                "nonfinite": "leave_out",
            },
        }


class _Run(aum_core.AUMCalculator):
    """Takes what was measured elsewhere, and writes the files with what there is to tell of it."""

    description: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), **(self.description or {})}


def _calculator(save_dir: Any, scores: Iterable[str], noise_posterior: KeepPosterior) -> aum_core.AUMCalculator | None:
    """The calculator that takes whole epochs; None where no other scores are wanted."""
    if not isinstance(save_dir, aum_core.AUMCalculator):
        run = _Run(save_dir, scores=scores, noise_posterior=noise_posterior)
        return run if hasattr(run, "scores") else None
    if scores or noise_posterior:
        raise ValueError("scores, noise_posterior: given with a calculator, want them where the calculator is made")
    return save_dir if hasattr(save_dir, "scores") else None
