from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genoseq.data.intervals import as_intervals, intersect, usable
from genoseq.data.split import (
    STAGES,
    BedSplit,
    BlocksSplit,
    ContiguousSplit,
    RandomWindowsSplit,
    RecordsSplit,
    write_bed,
)
from genoseq.errors import UserError

RECORDS = {"chr": 3000, "plasmid": 1200, "tiny": 700, "bit": 40}


def check(parts, genome, span: int, gap: int = 0) -> None:
    """Assert what holds for every split that does not leak: whole windows, disjoint parts, a gap inside records."""
    assert all(len(parts.of(stage)) and parts.of(stage).dtype == np.int64 for stage in STAGES)
    rows = sorted((a, b, stage) for stage in STAGES for a, b in parts.of(stage).tolist())
    for a, b, _ in rows:
        assert b - a >= span
        assert any(r.start <= a and b <= r.end for r in genome.records), f"{a}-{b} crosses a record's edge"
        assert "N" * 10 not in genome.letters(a, b)
    for (_, b, one), (a, _, two) in pairwise(rows):
        same_record = not any(b <= record.start <= a for record in genome.records)
        assert a - b >= (gap if one != two and same_record else 0)


@pytest.fixture(scope="module")
def genome(make_genome, letters):
    text = {name: letters(n, seed) for seed, (name, n) in enumerate(RECORDS.items())}
    # a long run of unknown letters, one of exactly ten, one of nine, and one at a record's end
    text["chr"] = text["chr"][:1000] + "N" * 60 + text["chr"][1060:2000] + "N" * 10 + text["chr"][2010:2500] + "N" * 9
    text["chr"] += letters(3000 - len(text["chr"]), 9)
    text["plasmid"] = text["plasmid"][:-30] + "N" * 30
    return make_genome(text, name="four")


@pytest.fixture
def bed(tmp_path):
    def write(text: str, **kwargs) -> BedSplit:
        path = tmp_path / "parts.bed"
        path.write_text(text)
        return BedSplit(str(path), **kwargs)

    return write


@given(
    seed=st.integers(0, 5),
    span=st.integers(1, 40),
    test=st.sampled_from([0.1, 0.2, 0.3]),
    val=st.sampled_from([0.05, 0.1]),
)
def test_contiguous_parts(genome, seed, span, test, val):
    parts = ContiguousSplit(test, val)(genome, span, seed)
    check(parts, genome, span, gap=span)
    n = len(genome)
    first = n - round(n * test)
    last = intersect(usable(genome, 10), as_intervals([(first, n)]))
    assert parts.test.tolist() == [[a, b] for a, b in last.tolist() if b - a >= span]
    assert parts.train.max() < parts.val.min() and parts.val.max() < first
    assert not parts.splits_windows and not parts.overlap(span)
    assert parts.accepts("train", np.arange(6).reshape(2, 3)).tolist() == [[True] * 3] * 2


def test_contiguous_test_is_the_last_fifth_of_the_whole(make_genome, letters):
    parts = ContiguousSplit()(make_genome(letters(10_000)), span=100)
    assert parts.test.tolist() == [[8000, 10_000]]
    assert parts.val.tolist() == [[7400, 7900]]  # a twentieth of the whole, a window before the test part
    assert parts.train.tolist() == [[0, 7300]]


@given(seed=st.integers(0, 10_000), span=st.integers(1, 60), size=st.sampled_from([70, 100, 250]))
def test_blocks_parts(genome, seed, span, size):
    try:
        parts = BlocksSplit(0.2, 0.15, block_size=size)(genome, span, seed)
    except UserError as error:  # every block of a part is cut down by its gaps and by unknown letters
        assert "has no interval as long as a window" in str(error) and span > size // 3
        return
    check(parts, genome, span, gap=span)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(300, 3000), min_size=1, max_size=4),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
    span=st.integers(1, 60),
)
def test_folds_test_every_base_once(make_genome, letters, lengths, folds, seed, span):
    genome = make_genome({f"r{i}": letters(n, i) for i, n in enumerate(lengths)})
    tested = np.zeros(len(genome), dtype=int)
    for fold in range(folds):
        split = BlocksSplit(val=0.2, block_size=250, fold=fold, folds=folds, seed=seed)
        try:
            parts = split(genome, span, seed=fold)
        except UserError as error:
            assert "blocks" in str(error) or "as long as a window" in str(error)
            return
        again = split(genome, span, seed=fold + 7)  # the run's seed has no say
        assert all(np.array_equal(parts.of(stage), again.of(stage)) for stage in STAGES)
        owner = np.full(len(genome), -1)
        for number, stage in enumerate(STAGES):
            for a, b in parts.of(stage):
                assert (owner[a:b] == -1).all()
                owner[a:b] = number
        tested += owner == 2
        for record in genome.records:
            inside = owner[record.start : record.end]
            edges = np.flatnonzero(np.diff(inside))
            for a in edges:  # between two parts lies a window, and it is not the test part's
                assert inside[a] == -1 or inside[a + 1] == -1
            for a, b in pairwise(edges):
                if inside[a + 1] == -1 and inside[a] != inside[b + 1]:
                    assert b - a >= span
    assert (tested == 1).all()


def test_blocks_shares_are_right_and_blocks_whole(make_genome, letters):
    genome = make_genome(letters(100_000))
    parts = BlocksSplit(0.2, 0.1, block_size=1000)(genome, span=10, seed=4)
    stages = np.full(100_000, -1)
    for number, stage in enumerate(STAGES):
        for a, b in parts.of(stage):
            stages[a:b] = number
    counts = [len(set(np.flatnonzero(stages == number) // 1000)) for number in range(3)]
    assert counts == [70, 10, 20]
    for block in stages.reshape(100, 1000):
        assert len(set(block[10:])) == 1  # only the gap at the front may be missing
    assert not any(a == b for (_, b), (a, _) in pairwise(parts.train.tolist()))  # neighbours of a part are one interval


@pytest.mark.parametrize(
    "split", [ContiguousSplit(), BlocksSplit(block_size=100), RandomWindowsSplit(), RecordsSplit(["plasmid"])]
)
def test_parts_are_a_function_of_the_seed(genome, split):
    starts = np.arange(len(genome))

    def described(seed: int) -> list:
        parts = split(genome, 20, seed)
        return [(parts.of(stage).tolist(), parts.accepts(stage, starts).tolist()) for stage in STAGES]

    assert described(3) == described(3)
    assert (described(3) != described(4)) == isinstance(split, (BlocksSplit, RandomWindowsSplit))


def test_records_parts(genome):
    parts = RecordsSplit(test=["plasmid"], val=["tiny"])(genome, span=30)
    check(parts, genome, 30)
    assert parts.test.tolist() == [[3000, 4170]]  # without its unknown end
    assert parts.val.tolist() == [[4200, 4900]]
    assert parts.train.tolist() == [[0, 1000], [1060, 2000], [2010, 3000], [4900, 4940]]


@pytest.mark.parametrize("test", ["plasmid", ["plasmid"], ["plasmid", "plasmid"]])
def test_records_validation_share_comes_off_the_end_of_the_rest(genome, test):
    parts = RecordsSplit(test=test, val=0.1)(genome, span=30)
    check(parts, genome, 30, gap=30)
    assert parts.val.tolist() == [[4940 - 40 - 334, 4900], [4900, 4940]]  # a tenth of 3740, from the end
    assert parts.test.tolist() == [[3000, 4170]]


@pytest.mark.parametrize(("test", "val"), [([2], [3]), (2, ["3"])])
def test_records_may_have_numbers_for_names(make_genome, letters, test, val):
    # a command line's data.split.test=[2] is a number
    genome = make_genome({"1": letters(300), "2": letters(200), "3": letters(100)})
    assert RecordsSplit(test, val)(genome, 20).test.tolist() == [[300, 500]]


def test_bed_parts(genome, bed):
    parts = bed(
        "track name=x\n# comment\n\nbrowser position\n"
        "chr\t0\t900\ttrain\nchr\t900\t1500\tval\nplasmid\t100\t400\ttest\textra\nchr\t1500\t1990\ttest\n"
    )(genome, span=30)
    check(parts, genome, 30)
    assert parts.train.tolist() == [[0, 900]]
    assert parts.val.tolist() == [[900, 1000], [1060, 1500]]
    assert parts.test.tolist() == [[1500, 1990], [3100, 3400]]


@pytest.mark.parametrize("lines", ["chr\t0\t1000\ttrain\n", "chr\t500\t1000\ttrain\nchr\t0\t500\ttrain\n"])
def test_bed_without_validation_takes_a_share_off_the_end_of_train(genome, bed, lines):
    parts = bed(f"tiny\t0\t700\ttest\n{lines}", val=0.5)(genome, span=30)
    assert parts.train.tolist() == [[0, 470]]  # a gap, also where the cut falls between two lines that touch
    assert parts.val.tolist() == [[500, 1000]]


def test_bed_reads_records_that_begin_like_a_track_line(make_genome, letters, bed):
    genome = make_genome({"track7": letters(100, 1), "browser_2": letters(100, 2), 'a"b': letters(100, 3)})
    parts = bed('track7\t0\t100\ttrain\nbrowser_2\t0\t100\ttest\na"b\t0\t100\tval\n')(genome, span=10)
    assert [parts.of(stage).tolist() for stage in STAGES] == [[[0, 100]], [[200, 300]], [[100, 200]]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chr\t0\t900\ttrain\nchr\t800\t1000\ttest\n", ["lines 1 and 2", "overlap"]),
        ("chr\t0\t900\ttrain\nchr\t100\t200\ttrain\nplasmid\t0\t500\ttest\n", ["lines 1 and 2", "overlap"]),
        ("chr\t0\t900\ttrain\nchrX\t0\t100\ttest\n", ["line 2", "'chrX'", "four"]),
        ("chr\t0\t900\ttrain\nchr\t900\t3001\ttest\n", ["line 2", "900-3001", "'chr'", "3,000"]),
        ("chr\t900\t900\ttrain\n", ["line 1", "900-900"]),
        ("chr\t-5\t900\ttrain\n", ["line 1", "expected record, start, end"]),
        ("#x\nchr\t0\t900\tTrain\n", ["line 2", "train, val or test"]),
        ("chr\t0\t900\n", ["line 1", "train, val or test"]),
        ("chr 0 900 train\n", ["line 1", "tabs"]),
        ("chr\t0\t²\ttrain\n", ["line 1", "expected record, start, end"]),
        ("chr\t0\t900\ttrain\n", ["no test line"]),
        ("chr\t0\t900\ttest\n", ["no train line"]),
        ("", ["no train line"]),
    ],
)
def test_bad_bed_lines_are_named(genome, bed, text, says):
    with pytest.raises(UserError) as error:
        bed(text)(genome, span=30)
    for part in [*says, "parts.bed"]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x80"])
def test_unreadable_bed_file_is_named(genome, tmp_path, content):
    path = tmp_path / "parts.bed"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"parts\.bed cannot be read"):
        BedSplit(str(path))(genome, 30)


def test_random_windows_give_each_start_one_stage(make_genome, letters):
    genome = make_genome(letters(40_000))
    parts = RandomWindowsSplit(0.2, 0.05)(genome, span=50, seed=1)
    assert parts.splits_windows
    starts = np.arange(40_000)
    of = np.stack([parts.accepts(stage, starts) for stage in STAGES])
    assert (of.sum(0) == 1).all()
    assert np.allclose(of.mean(1), [0.75, 0.05, 0.2], atol=0.01)
    # the stage belongs to the start alone, in whatever order and shape it is asked
    back = parts.accepts("test", starts[::-1].reshape(200, 200))
    assert np.array_equal(back.ravel()[::-1], of[2])
    assert all(parts.of(stage).tolist() == [[0, 40_000]] for stage in STAGES)  # nothing is stored but the key


@pytest.mark.parametrize("split", [ContiguousSplit(), RandomWindowsSplit()])
def test_unknown_runs_and_pieces_too_short_for_a_window_are_left_out(make_genome, letters, caplog, split):
    # a run of nine unknown letters stays inside
    text = letters(250) + "N" * 9 + letters(241) + "N" * 10 + letters(20) + "N" * 10 + letters(460)
    parts = split(make_genome(text), 30)
    assert parts.train.tolist() == [[0, 500], [540, 1000 if parts.splits_windows else 690]]
    assert "20 bases lie in pieces shorter than a window (30 bases)" in caplog.text


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        *(
            (partial(kind, **shares), name, shares[name])
            for kind in (ContiguousSplit, BlocksSplit, RandomWindowsSplit)
            for name, shares in [
                ("test", {"test": 0}),
                ("test", {"test": 1}),
                ("test", {"test": -0.2}),
                ("val", {"val": 0}),
                ("val", {"val": -0.1}),
                ("val", {"val": 0.8}),
                ("val", {"test": 0.5, "val": 0.6}),
            ]
        ),
        (partial(BlocksSplit, block_size=0), "block_size", 0),
        (partial(BlocksSplit, folds=1), "folds", 1),
        *((partial(BlocksSplit, fold=fold), "fold", fold) for fold in (5, -1, 0.5)),
        (partial(BlocksSplit, seed="a"), "seed", "a"),
        *((partial(RandomWindowsSplit, window_stride=n), "window_stride", n) for n in (0, -3, 1.5)),
        (partial(ContiguousSplit, unknown_run=0), "unknown_run", 0),
        (partial(RecordsSplit, ["a"], unknown_run=-1), "unknown_run", -1),
        (partial(RecordsSplit, ["a"], val=0), "val", 0),
        (partial(RecordsSplit, ["a"], val=1.5), "val", 1.5),
        (partial(BedSplit, "x.bed", val=1), "val", 1),
    ],
)
def test_settings_that_cannot_be(make, name, value):
    with pytest.raises(UserError, match=rf"^data\.split\.{name} must be .*, got {value}$"):
        make()


@pytest.mark.parametrize(
    ("test", "val", "says"),
    [
        (["nope"], 0.1, ["data.split.test", "'nope'", "'four'", "chr, plasmid"]),
        (["chr"], ["nope"], ["data.split.val", "'nope'"]),
        (["chr"], ["tiny", "chr"], ["'chr'", "both"]),
        ([], 0.1, ["data.split.test=[NAME"]),
        (["chr", "plasmid", "tiny", "bit"], 0.1, ["train part", "no interval"]),
        (["bit"], 0.1, ["test part", "four", "40 bases", "needs 50"]),
        (["chr"], ["bit"], ["val part", "40 bases"]),
    ],
)
def test_bad_record_names(genome, test, val, says):
    with pytest.raises(UserError) as error:
        RecordsSplit(test, val)(genome, span=50)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize("split", [ContiguousSplit(), BlocksSplit(block_size=400), RandomWindowsSplit()])
def test_parts_too_short_for_one_window_are_named(genome, split):
    with pytest.raises(UserError, match=r"part of genome 'four' \(four\.fa\) has no interval .* needs 1,500"):
        split(genome, span=1500)


@pytest.mark.parametrize("split", [ContiguousSplit(), BlocksSplit(block_size=300), RecordsSplit(["plasmid"])])
def test_the_parts_written_as_bed_are_read_back(genome, tmp_path, split):
    parts = split(genome, 20, 1)
    write_bed(tmp_path / "split.bed", parts, genome, 20)
    again = BedSplit(str(tmp_path / "split.bed"))(genome, 20)
    assert [again.of(stage).tolist() for stage in STAGES] == [parts.of(stage).tolist() for stage in STAGES]


def test_a_bed_of_random_windows_says_where_they_start(make_genome, letters, tmp_path):
    genome = make_genome({"a": letters(100), "b": letters(60, 1)})
    for stride, says in ((1, []), (50, ["# windows of 51 bases start at every 50 bases of a line"])):
        write_bed(tmp_path / "split.bed", RandomWindowsSplit(window_stride=stride)(genome, 51), genome, 51)
        lines = (tmp_path / "split.bed").read_text().splitlines()
        assert lines[0] == f"# genome small sha256 {genome.sha256}"
        assert lines[1:] == [*says, "a\t0\t100\trandom_windows", "b\t0\t60\trandom_windows"]
