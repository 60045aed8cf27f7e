import io

import numpy as np
import pytest

from aum_core import AUMCalculator, read_aum_values
from aum_core.files.tables import write_aum_values, write_table

NASTY_IDS = [
    "plain",
    "a,b",
    'say "hi"',
    " blank ",
    "",
    "line\nbreak",
    "carriage\rreturn",
    "\N{SNOWMAN}",
    "007",
    "'",
    "#",
    "nan",
]


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_ranking_is_best_first_ties_as_first_seen_and_nan_last(tmp_path):
    ids = np.array([10, 11, 12, 13, 14, 15])
    aums = np.array([1.0, np.nan, 5.0, 1.0, -np.inf, 1.0])
    write_aum_values(tmp_path / "aum.csv", ids, aums)
    expected = "sample_id,aum\n12,5.0\n10,1.0\n13,1.0\n15,1.0\n14,-inf\n11,\n"
    assert (tmp_path / "aum.csv").read_bytes() == expected.encode()


def test_many_tied_aums_stand_as_first_seen(tmp_path):
    write_aum_values(tmp_path / "aum.csv", np.arange(1000), np.arange(1000) % 2 * 1.0)
    ids, _ = read_aum_values(tmp_path / "aum.csv")
    assert ids == [str(each) for each in (*range(1, 1000, 2), *range(0, 1000, 2))]


def test_bytes_are_those_of_pandas(tmp_path, pandas):
    generator = np.random.default_rng(0)
    aums = np.concatenate(
        [generator.normal(0, 10.0 ** generator.integers(-20, 20, 100_000)), [0.0, -0.0, 1e16, 1e-5, 1e22, 5e-324]]
    )
    aums = -np.sort(-aums)
    ids = np.arange(len(aums)) * 7919
    for each in (ids, objects([NASTY_IDS[i % len(NASTY_IDS)] + str(i % 3) for i in range(len(aums))])):
        write_aum_values(tmp_path / "aum.csv", each, aums)
        text = io.StringIO()
        pandas.DataFrame({"sample_id": each, "aum": aums}).to_csv(text, index=False, lineterminator="\n")
        assert (tmp_path / "aum.csv").read_bytes() == text.getvalue().encode()


def test_full_records_are_the_bytes_of_pandas(tmp_path, pandas):
    calculator = AUMCalculator(tmp_path, compressed=False)
    generator = np.random.default_rng(0)
    ids = [*NASTY_IDS, 3, -1, 2**70, 10]
    for _ in range(3):
        generator.shuffle(ids)
        logits = generator.normal(size=(len(ids), 3)).astype(np.float32)
        calculator.update(logits, generator.integers(0, 3, len(ids)), ids)
    calculator.finalize()
    text = io.StringIO()
    AUMCalculator.records_to_df(calculator.records).to_csv(text, index=False, lineterminator="\n")
    assert (tmp_path / "full_aum_records.csv").read_bytes() == text.getvalue().encode()


def test_records_to_df_sorts_ints_before_strs_then_by_measurement(tmp_path, pandas):
    calculator = AUMCalculator(tmp_path, compressed=False)
    for _ in range(2):
        calculator.update(np.eye(3, dtype=np.float32), [0, 1, 2], ["b", 2, 1])
    frame = AUMCalculator.records_to_df(calculator.records)
    assert frame["sample_id"].tolist() == [1, 1, 2, 2, "b", "b"]
    assert frame["num_measurements"].tolist() == [1, 2] * 3
    assert frame.index.tolist() == [2, 5, 1, 4, 0, 3]


def test_a_ranking_is_read_back_as_it_was_written(tmp_path):
    written = [each for each in NASTY_IDS if "\r" not in each]  # pandas' quoting loses that one
    aums = np.arange(len(written), 0.0, -1.0) / 3
    aums[-1] = np.nan
    write_aum_values(tmp_path / "aum.csv", objects(written), aums)
    ids, read = read_aum_values(tmp_path / "aum.csv")
    assert ids == written
    np.testing.assert_array_equal(read, aums)


@pytest.mark.parametrize("line", ["a\rb,1.0", "a", "a,1.0,2", "a,high", ""])
def test_a_line_that_is_no_ranking_is_named(tmp_path, line):
    (tmp_path / "aum.csv").write_bytes(f"sample_id,aum\nx,2.0\n{line}\n".encode())
    with pytest.raises(ValueError, match=r"aum\.csv: line 3 is .* want a sample id and an AUM"):
        read_aum_values(tmp_path / "aum.csv")


@pytest.mark.parametrize("content", ["", "id,aum\n1,2.0\n", "1,2.0\n"])
def test_a_file_that_is_no_ranking_is_refused(tmp_path, content):
    (tmp_path / "other.csv").write_text(content)
    with pytest.raises(ValueError, match=r"other\.csv: first line .* want sample_id,aum"):
        read_aum_values(tmp_path / "other.csv")


def test_a_table_longer_than_one_part(tmp_path):
    numbers = np.arange(200_000)
    write_table(tmp_path / "table.csv", {"number": numbers}, numbers[::-1])
    lines = (tmp_path / "table.csv").read_text().split()
    assert lines == ["number", *map(str, range(199_999, -1, -1))]
