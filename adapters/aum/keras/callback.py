"""The callback: puts the measurement into the model's training step, and keeps the books between epochs."""

from __future__ import annotations

import functools
import warnings
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

import aum_core
from aum.keras.checkpoint import Books
from aum.keras.inputs import split_batch
from aum.keras.logits import Passing, check_one_label, find_activation, find_num_classes, keep_input
from aum.keras.state import MarginSums

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

    from aum_core.ids import SampleId
    from aum_core.posterior.averaging_window import PosteriorModel
    from aum_core.scores.scores import KeepPosterior

__all__ = ["AUMCallback"]

_ABSENT = object()


class AUMCallback(keras.callbacks.Callback):
    """Measures the margin of every training sample inside the training step of ``model.fit``.

    The margins are those of the step's own forward pass, before the weights change: there is no second one. Validation
    is not measured. Between epochs the callback keeps sums and counts in float64 and saves them beside the run's files,
    so that a fit that resumes at epoch e, by `BackupAndRestore` or ``initial_epoch``, goes on with the books as they
    were then. It adds ``aum`` (the mean over samples) and ``aum_negative`` (the share below zero) to the epoch's logs:
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
    posterior_model : {"judged", "classes"}, default "judged"
        As `aum_core.AUMCalculator` has it.
    num_classes : int, optional
        C, where the noise posterior or ``margin_of_mean_softmax`` needs it and a subclassed model does not tell.

    Raises
    ------
    ValueError
        For options that do not fit; in `fit`, at the first step, for inputs without sample ids, at the end of the first
        epoch that counts, where nothing was counted.

    Notes
    -----
    What it cannot do: an epoch broken off by an error is not counted at all; resuming in the middle of an epoch
    (``BackupAndRestore(save_freq=100)``) measures that epoch from its beginning, as Keras trains it; resuming at an
    older epoch than the last two finds no books and warns; with a calculator there are no books to resume from. Samples
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
        posterior_model: PosteriorModel = "judged",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if start_epoch < 0 or (stop_epoch is not None and stop_epoch <= start_epoch):
            raise ValueError(
                f"start_epoch, stop_epoch: {start_epoch}, {stop_epoch}, want 0 <= start_epoch < stop_epoch"
            )
        self._books = Books(num_samples, sample_ids, _scoring(save_dir, scores, noise_posterior, posterior_model))
        self._given, self._save_dir, self._num_samples, self._num_classes = model, save_dir, num_samples, num_classes
        self._start_epoch, self._stop_epoch = start_epoch, stop_epoch
        self._from_logits, self._output_layer = from_logits, output_layer
        self._warned = False
        # fit builds a model from its first batch before it tells any callback
        _set(model, "_symbolic_build", _without_ids_in_build(model._symbolic_build))  # noqa: SLF001

    @property
    def totals(self) -> aum_core.Totals:
        """Totals of all samples that were measured, by row; those of an epoch are in when it has ended."""
        return self._books.totals()

    @property
    def calculator(self) -> aum_core.AUMCalculator:
        """The calculator with the other scores that were asked for: ``calculator.scores``, ``noise_posterior()``.

        Its rows are those of its own totals: samples in the order in which they were first measured.
        """
        if self._books.scoring is None:
            raise AttributeError('a calculator is kept only by AUMCallback(..., scores=["confidence"]), say')
        return self._books.scoring

    def on_train_begin(self, logs: Any = None) -> None:
        """Put the measurement into the step."""
        model = self.model
        if model is not self._given:
            raise ValueError("model: fit with another model than the callback was made with")
        if self.params["epochs"] <= self._start_epoch:
            raise ValueError(
                f"start_epoch: {self._start_epoch}, but fit ends before it, with epochs={self.params['epochs']}"
            )
        self._opened = False
        self._attach(model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Open the books as they were before the first epoch of this fit, and clear the sums on the device."""
        if not self._opened:
            self._books.open(epoch, self._folder)
            self._opened = True
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
        sums, counts = self._sums.bring_home()
        if not counts[:-2].any() and not counts[-1]:
            self._fail(
                f"sample_ids: all {counts[-2]} rows of epoch {epoch} were left out; want ids in "
                f"[0, {self._num_samples}), as with_ids gives them, and targets that are classes of the model's output"
            )
        if self._start_epoch <= epoch and (self._stop_epoch is None or epoch < self._stop_epoch):
            self._books.add(sums, counts, self._epoch(sums, counts))
            self._warn()
            if logs is not None:
                logs.update(self._summary())
        self._books.close(epoch, self._folder)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave the model as it was, and write the files."""
        _detach(self.model)
        run, totals = self._books.scoring, self.totals
        if isinstance(self._save_dir, aum_core.AUMCalculator):
            if run is None:
                self._save_dir.add_totals(totals)
            self._books.clear()
            return
        if not isinstance(run, _Run) or not len(totals):  # of nothing there are no scores
            run = _Run(self._save_dir)
            run.add_totals(totals)
        run.description = self._describe()
        run.finalize()

    @property
    def _folder(self) -> Path | None:
        return None if isinstance(self._save_dir, aum_core.AUMCalculator) else Path(self._save_dir)

    def _attach(self, model: Any) -> None:
        _detach(model)  # what a fit that was broken off has left
        activation_layer = find_activation(model, self._from_logits, self._output_layer)
        self._passing = Passing()
        strategy = getattr(model, "distribute_strategy", None)
        with strategy.scope() if strategy else nullcontext():
            self._sums = self._make_sums(model)
        undo = ExitStack()
        # the list, and not an attribute: checkpoints go through the attributes of a model
        model._metrics.append(self._sums)  # noqa: SLF001 # no public way into a built model
        undo.callback(model._metrics.remove, self._sums)  # noqa: SLF001
        replacements = {
            "train_step": _with_ids_aside(model.train_step, self._passing),
            "test_step": _with_ids_aside(model.test_step, None),
            "compute_loss": _measured_loss(model, self._passing, self._sums, activation_layer),
        }
        for name, function in replacements.items():
            undo.callback(_set(model, name, function))
        if activation_layer is not None:
            undo.callback(_set(activation_layer, *keep_input(activation_layer, self._passing)))
        model._aum_attached = undo  # noqa: SLF001 # found by `_detach`, whichever callback did this
        model.test_function = None
        model.make_train_function(force=True)

    def _make_sums(self, model: Any) -> MarginSums:
        if self._books.scoring is None:
            return MarginSums(self._num_samples)
        scores = self._books.scoring.scores
        needs_classes = scores.need_softmax_sums or scores.need_logits_sums
        num_classes = (self._num_classes or find_num_classes(model)) if needs_classes else None
        return MarginSums(self._num_samples, scores, num_classes)

    def _epoch(self, sums: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> aum_core.EpochSums | None:
        """What the other scores want of an epoch."""
        if self._books.scoring is None:
            return None
        return self._sums.bring_epoch_home(sums, counts, self._books.scoring.scores)

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
        _detach(self.model)
        raise ValueError(message)

    def _warn(self) -> None:
        by_id, by_margin = self._books.left_out.tolist()
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
        seen = self._books.counts > 0
        aums = self._books.sums[seen] / self._books.counts[seen]
        return {"aum": float(aums.mean()), "aum_negative": float((aums < 0).mean())} if len(aums) else {}

    def _describe(self) -> dict[str, Any]:
        by_id, by_margin = self._books.left_out.tolist()
        scores = {} if self._books.scoring is None else self._books.scoring.describe()["options"]
        return {
            "framework": f"keras on {keras.backend.backend()}",
            "left_out_by": {"id_or_target": by_id, "nonfinite": by_margin},
            "options": {
                **{name: scores[name] for name in ("scores", "noise_posterior", "posterior_model") if name in scores},
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


def _scoring(
    save_dir: Any, scores: Iterable[str], noise_posterior: KeepPosterior, posterior_model: PosteriorModel
) -> aum_core.AUMCalculator | None:
    """The calculator that takes whole epochs; None where no other scores are wanted."""
    if not isinstance(save_dir, aum_core.AUMCalculator):
        run = _Run(save_dir, scores=scores, noise_posterior=noise_posterior, posterior_model=posterior_model)
        return run if hasattr(run, "scores") else None
    if scores or noise_posterior:
        raise ValueError("scores, noise_posterior: given with a calculator, want them where the calculator is made")
    return save_dir if hasattr(save_dir, "scores") else None


def _set(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Replace an attribute of an instance; the function that undoes it."""
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)
    if before is _ABSENT:
        return functools.partial(delattr, owner, name)
    return functools.partial(setattr, owner, name, before)


def _detach(model: Any) -> None:
    attached = vars(model).pop("_aum_attached", None)
    if attached is not None:
        attached.close()
        model.train_function = model.test_function = None  # they were traced with the measurement inside


def _with_ids_aside(step: Callable[..., Any], passing: Passing | None) -> Callable[..., Any]:
    """A step of data, or with JAX of state and data, that sees the data without their ids."""

    @functools.wraps(step)
    def without_ids(*arguments: Any) -> Any:
        *state, data = arguments
        sample_ids, data = split_batch(data)
        if passing is None or sample_ids is None:
            return step(*state, data)
        passing.now.sample_ids, passing.ids_came = sample_ids, True
        try:
            return step(*state, data)
        finally:
            passing.now.sample_ids = passing.now.logits = None

    return without_ids


def _measured_loss(
    model: Any, passing: Passing, sums: MarginSums, activation_layer: keras.layers.Layer | None
) -> Callable[..., Any]:
    """The model's `compute_loss`, which within a training step measures what it is given as well."""
    compute_loss, loss = model.compute_loss, model.loss

    @functools.wraps(compute_loss)
    def measured(x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **options: Any) -> Any:
        now = passing.now
        if now.sample_ids is not None:
            logits = y_pred if activation_layer is None else now.logits
            check_one_label(loss, logits)
            sums.measure(logits, y, now.sample_ids)
            passing.measured = True
        return compute_loss(x, y, y_pred, sample_weight, **options)

    return measured


def _without_ids_in_build(build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def without_ids(iterator: Any = None, data_batch: Any = None) -> Any:
        if iterator is not None:
            return build(iterator=_batches_without_ids(iterator))
        return build(data_batch=split_batch(data_batch)[1])

    return without_ids


def _batches_without_ids(iterator: Any) -> Iterator[Any]:
    for begin, end, batches in iterator:
        stripped = (split_batch(batch)[1] for batch in batches)
        yield begin, end, list(stripped) if isinstance(batches, list | tuple) else stripped
