"""One experiment: flip labels, train, rank, cut, retrain; the figures of each."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from experiments import NOISES
from nets import error, predict, settling, train
from sklearn.model_selection import StratifiedKFold

import aum_core
from aum.torch import AUMCalculator, ThresholdPlan
from aum_core import Precision, flip_instance_dependent, flip_pairs, flip_uniform, measure_detection
from aum_core.scores.kinds import SCORES as SCORES_BY_NAME
from aum_core.scores.kinds import oriented

if TYPE_CHECKING:
    from experiments import Experiment
    from numpy.typing import NDArray
    from sets import DataSet

    from aum_core import Findings, NoisePosterior

FOLDS = 3
WEAK_SHARE = 0.2
PAPER, IN_FOLDS, IN_SAMPLE = "paper: 2 runs, 99th, all", "cleanlab, 3-fold", "cleanlab, in-sample"
BEST = "best cut on AUM"
BOUNDED = "2 runs, 99th, all, on bounded AUM"
POSTERIOR, PRECISE = "noise posterior", "noise posterior, precision .9"
RULES = (
    PAPER,
    "2 runs, 99th, mean",
    "2 runs, 99th, any",
    "2 runs, 95th, all",
    "1 run, 99th",
    BOUNDED,
    "plain run, AUM < 0",
    POSTERIOR,
    PRECISE,
    IN_FOLDS,
    IN_SAMPLE,
    BEST,
)
ONE_PASS = {
    "bounded AUM": "bounded_aum",
    "confidence": "confidence",
    "variability": "variability",
    "correctness": "correctness",
    "EL2N": "el2n",
    "forgetting": "forgetting",
}
AUM, AUM_OF_RUNS = "AUM, plain run", "AUM, 2 threshold runs"
SCORES = (AUM, AUM_OF_RUNS, *ONE_PASS, POSTERIOR, IN_FOLDS, IN_SAMPLE)
RETRAINED = ("noisy", "oracle", PAPER, POSTERIOR, IN_FOLDS, IN_SAMPLE)


@dataclass(frozen=True)
class Plain:
    """What one run on the given labels brings, by row.

    Attributes
    ----------
    aums : ndarray of shape (N,)
    scores : dict of name to ndarray of shape (N,)
        The others, the lowest values being the most suspicious.
    posterior : NoisePosterior
    mean_softmax : ndarray of shape (N, C)
        Averaged over all measured epochs.
    error : float
        On the test samples.
    """

    aums: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]
    posterior: NoisePosterior
    mean_softmax: NDArray[np.float64]
    error: float


class Trial:
    """The trainings of one experiment, on one noisy version of a data set."""

    def __init__(self, experiment: Experiment, data: DataSet) -> None:
        self._experiment, self._data = experiment, data
        self._seeds = count(1000 * experiment.seed)  # each training has first weights and an order of its own
        self._features = torch.from_numpy(data.features)
        self._tests = torch.from_numpy(data.test_features), torch.from_numpy(data.test_labels)
        self.noisy, self.wrong = self._flip()

    def _train(self, features: torch.Tensor, targets: Any, num_classes: int, **options: Any) -> torch.nn.Module:
        given = {"epochs": self._experiment.epochs, "seed": next(self._seeds), **options}
        return train(self._experiment.net, features, torch.as_tensor(targets), num_classes, **given)

    def _flip(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        kind, rate = NOISES[self._experiment.noise]
        labels, num_classes, seed = self._data.labels, self._data.num_classes, self._experiment.seed
        if kind == "instance-dependent":
            return flip_instance_dependent(labels, self._weak_scores(), rate, seed)
        if kind == "pair":
            return flip_pairs(labels, num_classes, rate, seed)
        return flip_uniform(labels, num_classes, rate, seed)

    def _weak_scores(self) -> NDArray[np.float64]:
        """What a net thinks of all samples that has seen a few of them, with their right labels."""
        labels = self._data.labels
        part = np.random.default_rng(self._experiment.seed).permutation(len(labels))
        part = part[: round(WEAK_SHARE * len(labels))]
        model = self._train(self._features[part], labels[part], self._data.num_classes)
        return predict(model, self._features).double().numpy()

    def plain_run(self) -> Plain:
        """The run on the labels as they are given, with every score and the noise posterior."""
        seen = torch.zeros(len(self.noisy), self._data.num_classes, dtype=torch.float64)
        with tempfile.TemporaryDirectory() as folder:
            calculator = AUMCalculator(folder, scores=ONE_PASS.values(), noise_posterior=True)

            def observe(logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor) -> None:
                calculator.accumulate(logits, targets, rows)
                seen[rows] += logits.softmax(dim=1)

            model = self._train(self._features, self.noisy, self._data.num_classes, observe=observe)
        by_row = partial(_by_row, calculator.totals.sample_ids)
        posterior = calculator.noise_posterior()
        return Plain(
            by_row(calculator.totals.aums),
            {name: by_row(_low_first(score, calculator.scores[score])) for name, score in ONE_PASS.items()},
            posterior.at(by_row(posterior.probabilities), by_row(posterior.suggested).astype(np.int64)),
            (seen / self._experiment.epochs).numpy(),
            error(model, *self._tests),
        )

    def threshold_runs(self) -> tuple[Findings, dict[str, list[NDArray[np.float64]]]]:
        """The paper's two: what they found by AUM, and the scores (N,) of each run."""

        def fit(targets: NDArray[np.int64], num_classes: int, calculator: Any) -> None:
            # without the settling epochs, which nobody needs to find labels
            self._train(self._features, targets, num_classes, settle=False, observe=calculator.accumulate)

        made: list[AUMCalculator] = []

        def calculator(folder: Any) -> AUMCalculator:
            made.append(AUMCalculator(folder, scores=["bounded_aum"]))
            return made[-1]

        with tempfile.TemporaryDirectory() as folder:
            findings = aum_core.find_mislabeled(
                fit,
                self.noisy,
                self._data.num_classes,
                save_dir=folder,
                seed=self._experiment.seed,
                calculator=calculator,
            )
        return findings, {
            "aum": [_by_row(each.totals.sample_ids, each.totals.aums) for each in made],
            "bounded_aum": [_by_row(each.totals.sample_ids, each.scores["bounded_aum"]) for each in made],
        }

    def out_of_sample(self) -> NDArray[np.float64]:
        """Probabilities (N, C) of nets that have not seen the sample."""
        probabilities = np.empty((len(self.noisy), self._data.num_classes))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=self._experiment.seed)
        for seen, held in folds.split(self.noisy, self.noisy):
            model = self._train(self._features[seen], self.noisy[seen], self._data.num_classes)
            probabilities[held] = predict(model, self._features[held]).double().numpy()
        return probabilities

    def retrained_error(self, keep: NDArray[np.bool_]) -> float:
        """Test error after training on what is kept."""
        model = self._train(self._features[keep], self.noisy[keep], self._data.num_classes)
        return error(model, *self._tests)


def measure(experiment: Experiment, data: DataSet) -> dict[str, Any]:
    """Do an experiment; its figures, ready for JSON."""
    trial = Trial(experiment, data)
    plain = trial.plain_run()
    paper, runs = trial.threshold_runs()
    assert paper.plan is not None  # since threshold samples were drawn
    held_out = trial.out_of_sample()

    scores = {
        AUM: plain.aums,
        AUM_OF_RUNS: paper.aums,
        **plain.scores,
        POSTERIOR: -plain.posterior.probabilities,
        IN_FOLDS: _confidence(trial.noisy, held_out),
        IN_SAMPLE: _confidence(trial.noisy, plain.mean_softmax),
    }
    flagged = {
        **cuts(paper.plan, runs["aum"]),
        BOUNDED: paper.plan.cut(runs["bounded_aum"], 99, "all").flagged,
        "plain run, AUM < 0": plain.aums < 0,
        POSTERIOR: plain.posterior.flagged,
        PRECISE: Precision(0.9).cut(plain.aums, plain.posterior).flagged,
        IN_FOLDS: _issues(trial.noisy, held_out),
        IN_SAMPLE: _issues(trial.noisy, plain.mean_softmax),
    }
    rankings = {}
    if trial.wrong.any():
        flagged[BEST] = best_cut(plain.aums, trial.wrong)
        rankings = {name: ranking(scores[name], trial.wrong) for name in SCORES}
    errors = {"noisy": plain.error}
    if experiment.retrain:
        errors |= {name: trial.retrained_error(~flagged[name]) for name in (PAPER, POSTERIOR, IN_FOLDS, IN_SAMPLE)}
        errors["oracle"] = trial.retrained_error(~trial.wrong) if trial.wrong.any() else plain.error
    return {
        "samples": len(data.labels),
        "test_samples": len(data.test_labels),
        "num_classes": data.num_classes,
        "wrong": int(trial.wrong.sum()),
        "wrong_share": float(trial.wrong.mean()),
        "rankings": rankings,
        "cuts": {name: cut_figures(each, trial.wrong) for name, each in flagged.items()},
        "predicted": {
            "removed": plain.posterior.expected_wrong / len(data.labels),
            "precision": plain.posterior.predicted_precision,
            "recall": plain.posterior.predicted_recall,
            "undetermined": float(plain.posterior.verdict == "undetermined"),
            "symmetric": float(plain.posterior.verdict == "symmetric"),
        },
        "errors": errors,
    }


def cuts(plan: ThresholdPlan, aums: list[NDArray[np.float64]]) -> dict[str, NDArray[np.bool_]]:
    """What each rule on the threshold runs flags, (N,); the one run is the first of the two."""
    one = ThresholdPlan.draw(plan.targets, plan.num_classes, runs=1, seed=plan.seed)
    return {
        PAPER: plan.cut(aums, 99, "all").flagged,
        "2 runs, 99th, mean": plan.cut(aums, 99, "mean").flagged,
        "2 runs, 99th, any": plan.cut(aums, 99, "any").flagged,
        "2 runs, 95th, all": plan.cut(aums, 95, "all").flagged,
        "1 run, 99th": one.cut(aums[:1], 99).flagged,
    }


def best_cut(aums: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lowest AUMs up to the cut with the best F1: what no rule can beat that cuts this ranking."""
    order = np.argsort(aums, kind="stable")
    hits = np.cumsum(wrong[order])
    count = int((2 * hits / (np.arange(1, len(order) + 1) + wrong.sum())).argmax()) + 1
    flagged = np.zeros(len(order), np.bool_)
    flagged[order[:count]] = True
    return flagged


def cut_figures(flagged: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> dict[str, float | None]:
    """Share removed; precision, recall and F1 where labels are wrong, and no precision where nothing is flagged."""
    hits, num_flagged, num_wrong = int((flagged & wrong).sum()), int(flagged.sum()), int(wrong.sum())
    return {
        "removed": num_flagged / len(wrong),
        "precision": hits / num_flagged if num_flagged and num_wrong else None,
        "recall": hits / num_wrong if num_wrong else None,
        "f1": 2 * hits / (num_flagged + num_wrong) if num_wrong else None,
    }


def ranking(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC and average precision."""
    found = measure_detection(scores, wrong)
    return {"auroc": found.auroc, "average_precision": found.average_precision}


def _low_first(score: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A score with its suspicious end turned low; one without such an end as it is, to show that it has none."""
    return values if SCORES_BY_NAME[score].suspicious is None else oriented(score, values)


def costs(epochs: int) -> dict[str, float]:
    """Epochs over the whole data set that each rule needs, without the retraining that follows."""
    settled = epochs + settling(epochs)
    return {
        **{rule: 2.0 * epochs for rule in RULES if "2 runs" in rule},
        **dict.fromkeys(("1 run, 99th", "plain run, AUM < 0", POSTERIOR, PRECISE, IN_SAMPLE, BEST), float(epochs)),
        IN_FOLDS: (FOLDS - 1.0) * settled,
    }


def _confidence(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = get_label_quality_scores(labels, probabilities, method="self_confidence")
    return scores


def _issues(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    issues: NDArray[np.bool_] = find_label_issues(labels, probabilities, n_jobs=1)
    return issues


def _by_row(rows: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:
    found = np.empty(len(rows))
    found[rows] = values
    return found
