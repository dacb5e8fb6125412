"""Genes of GFF3 files and open reading frames, and what alleles do to them, beside Biopython's translation."""

import gzip

import numpy as np
import pytest
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.genes import Effects, Gene, find_genes, open_frames, read_genes, reading_frames
from genoseq.data.sources import load_genome
from genoseq.data.variants import encode, trim
from genoseq.errors import UserError

HEAD = "##gff-version 3\n"


def gff(path, *lines):
    rows = ("\t".join(str(field) for field in line) + "\n" for line in lines)
    path.write_bytes(gzip.compress((HEAD + "".join(rows) + "##FASTA\n>two\nACGT\n").encode()))
    return path


def cds(record, first, last, strand, phase, notes, kind="CDS"):
    return record, "src", kind, first, last, ".", strand, phase, notes


def coding(genome, gene):
    text = [genome.letters(start, end) for start, end in gene.parts]
    return "".join(text if gene.strand == "+" else [str(Seq(part).reverse_complement()) for part in text])


def test_coding_sequences_of_gff(make_genome, tmp_path):
    genome = make_genome({"a:b": "ACGTAACCGGTT" * 5, "ring": "ATGCCCAAAGGGTTTCAT" * 2})
    file = gff(
        tmp_path / "g.gff3.gz",
        cds("ring", 1, 36, "+", ".", "ID=r;Is_circular=true", "region"),
        cds("a%3Ab", 31, 40, "+", 2, "ID=split;gene=il%2C v"),
        cds("a%3Ab", 1, 10, "+", 1, "ID=split;gene=il%2C v"),
        cds("a%3Ab", 31, 36, "-", 0, "Parent=back"),
        cds("a%3Ab", 41, 46, "-", 0, "Parent=back"),
        cds("ring", 31, 39, "+", 0, "ID=over"),
        cds("ring", 31, 39, "-", 0, "ID=rover"),
        cds("ring", 34, 36, "+", 0, "ID=two-lines"),
        cds("ring", 1, 3, "+", 0, "ID=two-lines"),
        cds("ring", 1, 9, "+", 0, "ID=dead;pseudo=true"),
        cds("ring", 4, 9, "-", 0, "product=no name"),
    )
    genes = {gene.name: gene for gene in read_genes(file, genome)}
    text, ring = genome.letters(0, 60), genome.letters(60)
    turned = str(Seq(ring).reverse_complement())
    assert {name: coding(genome, gene) for name, gene in genes.items()} == {
        "il, v": text[:10] + text[30:40],
        "back": str(Seq(text[30:36] + text[40:46]).reverse_complement()),
        "over": ring[30:] + ring[:3],
        "rover": turned[-3:] + turned[:6],
        "two-lines": ring[33:] + ring[:3],
        "ring:4": str(Seq(ring[3:9]).reverse_complement()),
    }
    assert genes["il, v"].skip == 1 and genes["over"].span == (60, 96) and len(genes["il, v"]) == 20


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (cds("ring", 31, 39, "+", 0, "ID=x"), "31-39 is not inside 'ring'"),
        (cds("ring", 0, 9, "+", 0, "ID=x"), "is not inside"),
        (cds("ring", 9, "x", "+", 0, "ID=x"), "whole numbers"),
        (cds("ring", 1, 9, ".", 0, "ID=x"), r"line 2: a CDS must be on strand"),
        (cds("ring", 1, 9, "+", 3, "ID=x"), "phase"),
        (cds("nobody", 1, 9, "+", 0, "ID=x"), "no record 'nobody'"),
        (("ring", "CDS"), "9 fields"),
        (cds("ring", 1, 9, "+", 0, "ID=x", "gene"), "has no CDS"),
    ],
)
def test_a_bad_gff_is_one_sentence(make_genome, tmp_path, line, words):
    with pytest.raises(UserError, match=words):
        read_genes(gff(tmp_path / "g.gz", line), make_genome({"ring": "ATGCCCAAAGGGTTTCAT" * 2}))


@given(st.text("ACGT", min_size=0, max_size=200), st.integers(1, 30))
def test_open_frames_are_all_there_are(text, shortest):
    expected = []
    for start in range(len(text) - 2):
        protein = str(Seq(text[start : start + (len(text) - start) // 3 * 3]).translate(11))
        before = str(Seq(text[start % 3 : start]).translate(11)).rpartition("*")[2]
        upstream = [text[i : i + 3] for i in range(start - 3 * len(before), start, 3)]
        first = text[start : start + 3] in ("ATG", "GTG") and not {"ATG", "GTG"} & set(upstream)
        if first and "*" in protein and 3 * (length := protein.index("*") + 1) >= shortest:
            expected.append([start, start + 3 * length])
    assert sorted(open_frames(encode(text), shortest, ("ATG", "GTG")).tolist()) == expected


@given(st.data())
def test_effects_are_those_of_the_translated_sequence(genome_of_codes, data):
    body = data.draw(st.lists(st.sampled_from([a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]), max_size=8))
    body = [codon for codon in body if codon not in ("TAA", "TAG", "TGA")]
    gene_text = "ATG" + "".join(body) + "AAATAA"
    strand, split = data.draw(st.sampled_from("+-")), data.draw(st.integers(1, len(gene_text) - 1))
    text = "CC" + gene_text[:split] + "GG" + gene_text[split:] + "CC"
    parts = ((2, 2 + split), (4 + split, 4 + len(gene_text)))
    if strand == "-":
        text = str(Seq(text).reverse_complement())
        parts = tuple((len(text) - end, len(text) - start) for start, end in parts)
    genome = genome_of_codes(encode(text))
    effects = Effects(genome, [Gene("g", strand, parts)])
    start = data.draw(st.integers(0, len(text) - 1))
    ref = text[start : start + data.draw(st.integers(0, 4))]
    shift, ref, alt = trim(ref, data.draw(st.text("ACGT", max_size=4)))
    start += shift
    name, effect = effects(start, len(ref), encode(alt))
    end = start + len(ref)
    touched = [(low, high) for low, high in parts if start < high and end > low]
    if ref == alt:
        return
    if not touched:
        assert (name, effect) == ("", "noncoding")
        return
    assert name == "g"
    if any(start < low or end > high for low, high in touched):
        assert effect == "coding_sequence_variant"
        return
    pieces = [text[low:start] + alt + text[end:high] if low <= start and end <= high and (low, high) in touched
              else text[low:high] for low, high in parts]  # fmt: skip
    new = "".join(pieces if strand == "+" else [str(Seq(piece).reverse_complement()) for piece in pieces])
    if len(new) != len(gene_text):
        frame = {0: {"inframe_insertion", "inframe_deletion", "stop_gained", "stop_lost", "start_lost"}}
        assert effect in frame.get((len(new) - len(gene_text)) % 3, {"frameshift_variant"})
        return
    one, other = (str(Seq(each).translate(11)) for each in (gene_text, new))
    if "*" in other[:-1]:
        assert effect == "stop_gained"
    elif "*" not in other:
        assert effect == "stop_lost"
    elif new[:3] not in ("ATG", "GTG", "TTG"):
        assert effect == "start_lost"
    else:
        assert effect == ("synonymous_variant" if one[1:] == other[1:] else "missense_variant")


def test_reading_frames_shadow_shorter_ones(make_genome):
    gene = "ATG" + "GCA" * 98 + "TAA"
    text = "CC" + gene + "CATG" + "CC" + str(Seq(gene).reverse_complement())
    genome = make_genome({"one": "ACGT", "two": text})
    found = [(gene.name, gene.strand) for gene in reading_frames(genome)]
    assert found == [("two:3-302", "+"), (f"two:309-{len(text)}", "-")]
    assert Effects(genome, reading_frames(genome))(4 + 2 + 4, 1, encode("G"))[1] == "missense_variant"
    assert Effects(genome, [])(0, 1, encode("G")) == ("", "")
    overlapping = [Gene("weak", "+", ((6, 306),)), Gene("hit", "-", ((0, 60),))]
    assert Effects(genome, overlapping)(20, 0, encode("AC")) in (("hit", "frameshift_variant"),)


def test_pyrodigal_finds_most_long_frames():
    pytest.importorskip("pyrodigal")
    genome = load_genome("hpylori").excerpt(100_000)
    genes, frames = find_genes(genome), reading_frames(genome, 600)
    stops = {(gene.strand, gene.span[gene.strand == "+"]) for gene in genes}
    agreed = np.mean([(frame.strand, frame.span[frame.strand == "+"]) in stops for frame in frames])
    assert len(genes) > 20 and agreed > 0.8
