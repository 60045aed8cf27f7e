import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aum_core import compute_margins

DTYPES = [np.float16, np.float32, np.float64]


def by_hand(logits, targets):
    """The formula of the paper, sample by sample."""
    rows = []
    for row, target in zip(logits, targets, strict=True):
        others = [(value, -column) for column, value in enumerate(row) if column != target]
        value, column = max(others)
        rows.append((row[target], -column, value, row[target] - value))
    return [np.array(column) for column in zip(*rows, strict=True)]


def random_batch(num_rows, num_classes, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 5, (num_rows, num_classes)).astype(dtype)
    return logits, generator.integers(0, num_classes, num_rows)


def assert_same(margins, expected):
    for name, values in zip(("target_val", "other_logit", "other_val", "margin"), expected, strict=True):
        np.testing.assert_array_equal(getattr(margins, name), values, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_rows", "num_classes"), [(1, 2), (7, 2), (33, 10), (300, 1000), (9, 50_000)])
def test_margins_are_the_formula(dtype, num_rows, num_classes):
    logits, targets = random_batch(num_rows, num_classes, dtype)
    margins = compute_margins(logits, targets)
    widened = logits.astype(np.float32) if dtype == np.float16 else logits
    assert_same(margins, by_hand(widened, targets))
    assert margins.margin.dtype == widened.dtype
    assert margins.other_logit.dtype == np.int64


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_rows", "num_classes"), [(0, 1000), (1, 256), (33, 10), (300, 1000), (9, 50_000)])
@pytest.mark.parametrize("place", ["first", "any", "last"])
def test_margins_are_the_same_where_nobody_asks_for_the_class(dtype, num_rows, num_classes, place):
    logits, targets = random_batch(num_rows, num_classes, dtype)
    if place != "any":
        targets[:] = 0 if place == "first" else num_classes - 1
        logits[:, targets] = 99.0  # what a neighbour's part would give
    expected, margins = compute_margins(logits, targets), compute_margins(logits, targets, other_logit=False)
    assert_same(margins, (expected.target_val, margins.other_logit, expected.other_val, expected.margin))
    for name in ("target_val", "other_logit", "other_val", "margin"):
        assert getattr(margins, name).dtype == getattr(expected, name).dtype


def test_margin_of_a_half_type_is_not_rounded_to_half():
    margins = compute_margins(np.array([[2048.0, 0.5]], np.float16), [0])
    assert margins.margin.tolist() == [2047.5]


def test_of_tied_classes_the_lowest_is_named():
    logits = np.array([[1.0, 3.0, 3.0, 3.0]] * 3, np.float32)
    margins = compute_margins(logits, [0, 1, 2])
    assert margins.other_logit.tolist() == [1, 2, 1]
    assert margins.margin.tolist() == [-2.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda logits: np.repeat(logits, 2, axis=1)[:, ::2],
        lambda logits: logits[::-1][::-1],
        lambda logits: logits.astype(logits.dtype.newbyteorder("S")),
    ],
    ids=["fortran", "strided", "reversed twice", "swapped bytes"],
)
@pytest.mark.parametrize("shape", [(20, 10), (40, 7000)])
def test_layout_of_the_logits_changes_nothing(change, shape):
    logits, targets = random_batch(*shape)
    changed = change(logits)
    margins = compute_margins(changed, targets)
    assert_same(margins, by_hand(logits, targets))
    assert margins.margin.dtype == np.dtype("=f4")


def test_row_wider_than_a_block():
    logits, targets = random_batch(2, 300_000)
    assert_same(compute_margins(logits, targets), by_hand(logits, targets))


@pytest.fixture(scope="module")
def wide_batch():
    return random_batch(256, 50_000)


@pytest.mark.parametrize("other_logit", [True, False])
@pytest.mark.parametrize("change", [np.asarray, np.asfortranarray, np.flipud])
def test_wide_logits_are_not_copied_whole(wide_batch, other_logit, change):
    logits, targets = change(wide_batch[0]), wide_batch[1]
    compute_margins(logits, targets)
    tracemalloc.start()
    compute_margins(logits, targets, other_logit=other_logit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 50


def test_caller_array_is_not_written_to():
    logits, targets = random_batch(50, 4000)
    before = logits.copy()
    logits.flags.writeable = targets.flags.writeable = False
    compute_margins(logits, targets)
    compute_margins(logits, targets, other_logit=False)
    np.testing.assert_array_equal(logits, before)


def test_threads_do_not_share_their_memory():
    batches = [random_batch(64, 1000, seed=seed) for seed in range(4)]
    expected = [compute_margins(*batch).margin for batch in batches]
    wrong = []

    def measure(number):
        found = [compute_margins(*batches[number]).margin for _ in range(200)]
        wrong.extend(number for margin in found if not np.array_equal(margin, expected[number]))

    threads = [threading.Thread(target=measure, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_margins_kept_by_the_caller_do_not_change_with_the_next_batch():
    first = compute_margins(*random_batch(64, 1000, seed=1))
    kept = first.other_val.copy()
    compute_margins(*random_batch(64, 1000, seed=2))
    np.testing.assert_array_equal(first.other_val, kept)


def test_no_rows_give_no_margins():
    assert len(compute_margins(np.empty((0, 3), np.float32), np.empty(0, np.int64))) == 0


@pytest.mark.parametrize("other_logit", [True, False])
@pytest.mark.parametrize("num_classes", [3, 60_000])
def test_non_finite_logits_pass_through_without_a_warning(num_classes, other_logit):
    logits = np.zeros((5, num_classes), np.float32)
    logits[0, 1] = np.nan
    logits[1, 0] = np.inf
    logits[2, :2] = np.inf
    logits[3, 1:] = -np.inf
    logits[4, 0], logits[4, 1] = 3e38, -3e38
    logits[4, 2:] = -3e38
    margins = compute_margins(logits, [0] * 5, other_logit=other_logit).margin
    np.testing.assert_array_equal(margins, np.array([np.nan, np.inf, np.nan, np.inf, np.inf], np.float32))


small_logits = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.integers(-9, 9))


@given(small_logits, st.integers(-100, 100), st.randoms(use_true_random=False))
def test_adding_a_constant_to_all_logits_changes_no_margin(logits, constant, random):
    targets = [random.randrange(logits.shape[1]) for _ in logits]
    np.testing.assert_array_equal(
        compute_margins(logits + constant, targets).margin, compute_margins(logits, targets).margin
    )


@given(small_logits, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_answer(logits, random):
    logits = logits + np.arange(logits.shape[1]) / 16  # no ties, so that one class is the answer
    targets = np.array([random.randrange(logits.shape[1]) for _ in logits])
    order = list(range(logits.shape[1]))
    random.shuffle(order)
    place = np.argsort(order)
    plain, permuted = compute_margins(logits, targets), compute_margins(logits[:, order], place[targets])
    np.testing.assert_array_equal(permuted.margin, plain.margin)
    np.testing.assert_array_equal(permuted.other_logit, place[plain.other_logit])


@given(small_logits, st.randoms(use_true_random=False))
def test_a_batch_is_its_pieces(logits, random):
    targets = np.array([random.randrange(logits.shape[1]) for _ in logits])
    cut = random.randrange(len(logits) + 1)
    whole = compute_margins(logits, targets)
    parts = [compute_margins(logits[rows], targets[rows]) for rows in (slice(cut), slice(cut, None))]
    for name in ("target_val", "other_logit", "other_val", "margin"):
        pieces = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(pieces, getattr(whole, name))


@pytest.mark.parametrize(
    ("logits", "targets", "error", "words"),
    [
        (np.zeros((2, 3), np.int64), [0, 1], TypeError, ["logits", "int64", "softmax"]),
        (np.zeros((2, 3), np.complex64), [0, 1], TypeError, ["logits", "complex64"]),
        (np.zeros((2, 3), object), [0, 1], TypeError, ["logits", "object"]),
        (np.zeros(3, np.float32), [0], ValueError, ["logits", "(3,)", "[0, z]"]),
        (np.zeros((3, 1), np.float32), [0, 1, 0], ValueError, ["logits", "(3, 1)", "[0, z]"]),
        (np.zeros((3, 0), np.float32), [0, 1, 0], ValueError, ["logits", "(3, 0)"]),
        (np.zeros((2, 3, 4), np.float32), [0, 1], ValueError, ["logits", "(2, 3, 4)", "(B, C)"]),
        (np.zeros((2, 3), np.float32), [0.0, 1.0], TypeError, ["targets", "float64"]),
        (np.zeros((2, 3), np.float32), [True, False], TypeError, ["targets", "bool"]),
        (np.zeros((2, 3), np.float32), [0], ValueError, ["targets", "(1,)", "(2, 3)"]),
        (np.zeros((2, 3), np.float32), [[0, 1, 0], [1, 0, 0]], ValueError, ["targets", "(2, 3)"]),
        (np.zeros((2, 3), np.float32), [0, 3], ValueError, ["targets", "row 1", "3", "[0, 3)"]),
        (np.zeros((2, 3), np.float32), [0, -100], ValueError, ["targets", "row 1", "-100"]),
    ],
)
def test_bad_input_is_named(logits, targets, error, words):
    with pytest.raises(error) as caught:
        compute_margins(logits, targets)
    for word in words:
        assert word in str(caught.value)
