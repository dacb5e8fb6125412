import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data import hashing

keys = st.lists(st.integers(-(2**63), 2**64), min_size=0, max_size=4).map(tuple)


@given(key=keys, n=st.one_of(st.integers(1, 3000), st.sampled_from([255, 256, 257, 1023, 4096, 4097])))
def test_permute_is_a_bijection(key, n):
    image = hashing.permute(key, np.arange(n), n)
    assert image.dtype == np.int64
    assert np.array_equal(np.sort(image), np.arange(n))


@given(key=keys, n=st.integers(1, 2**40), index=st.data())
def test_permute_is_pointwise_and_stays_below_n(key, n, index):
    i = np.array(index.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20, unique=True)))
    image = hashing.permute(key, i, n)
    assert ((image >= 0) & (image < n)).all()
    assert [int(hashing.permute(key, one, n)) for one in i] == image.tolist()


def test_permute_scatters_by_every_part_of_the_key():
    n = 20_000
    images = [hashing.permute(key, np.arange(n), n) for key in [(5,), (0, 5), (5, 0), (0, 0, 5)]]
    assert len({tuple(image) for image in images}) == 4
    image = images[0]
    # neighbours land far apart: were both even, their distance would be a third of n on average
    assert 0.31 < np.abs(np.diff(image)).mean() / n < 0.36
    assert abs(np.corrcoef(np.arange(n), image)[0, 1]) < 0.03
    # any run of counters covers the range evenly: 1000 of the first 10 000 in each tenth
    counts = np.bincount(image[:10_000] * 10 // n, minlength=10)
    assert (np.abs(counts - 1000) < 150).all()


@given(key=keys, counter=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=50))
def test_uniform_lies_in_range_and_is_a_function(key, counter):
    x = hashing.uniform(key, np.array(counter))
    assert ((x >= 0) & (x < 1)).all()
    assert np.array_equal(x, hashing.uniform(key, np.array(counter)))
    assert float(hashing.uniform(key, counter[0])) == x[0]


@pytest.mark.parametrize("key", [(0,), (1,), (123456789, 4), (0, 2)])
def test_uniform_is_roughly_uniform(key):
    n = 50_000
    x = hashing.uniform(key, np.arange(n))
    counts = np.bincount((x * 50).astype(int), minlength=50)
    chi2 = ((counts - n / 50) ** 2 / (n / 50)).sum()
    assert 15 < chi2 < 100  # 49 degrees of freedom: too even is as wrong as too uneven
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.02
    other = hashing.uniform((key[0] + 1, *key[1:]), np.arange(n))
    assert abs(np.corrcoef(x, other)[0, 1]) < 0.02


def test_mix_is_splitmix64():
    # the first outputs of SplitMix64 seeded with 0 (the generator adds the golden ratio before it mixes)
    golden = 0x9E3779B97F4A7C15
    seeds = np.array([golden * i % 2**64 for i in range(3)], dtype=np.uint64)
    assert hashing.mix(seeds).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
