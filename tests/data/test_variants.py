"""Files of variants: what each line means, and that a VCF is written as it was but for INFO."""

import gzip
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.data.variants import VariantFile, VcfWriter, read_names
from genoseq.errors import UserError
from genoseq.evaluation.edits import changes_in, homopolymer_edits, random_substitutions, saturation

HEAD = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n"
FIELDS = {"GENOSEQ_LLR": ("A", "Float", "bits"), "GENOSEQ_PART": ("1", "String", "part")}


@pytest.fixture
def genome(make_genome):
    return make_genome({"NC_1.2": "ACGTTTTGCANCC", "two": "CCCAAATG"})


def vcf(path, *lines, end="\n", head=HEAD):
    path.write_bytes((head + "".join(line + end for line in lines)).replace("\n", end).encode())
    return path


def line(record, pos, ref, alt, info="."):
    return f"{record}\t{pos}\t.\t{ref}\t{alt}\t.\tPASS\t{info}\tGT\t0|1"


def sites(path, genome, **kwargs):
    return [site for site in VariantFile(path, genome, **kwargs) if not site.is_header]


def test_each_allele_has_its_status_and_place(tmp_path, genome, caplog):
    file = vcf(
        tmp_path / "a.vcf",
        line("NC_1.2", 1, "a", "c,<DEL>,*,<*>,<NON_REF>,.,A,N[two:3[,N"),
        line("two", 3, "CAAA", "C,CAAAA,CAAAATTTT" + "A" * 60),
        line("two", 1, "CC", "TT"),
        line("NC_1.2", 11, "N", "A"),
        line("three", 11, "A", "C"),
        line("two", 8, "GT", "G"),
        line("two", 0, "C", "G"),
        line("two", 0, "N", ".[NC_1.2:3["),
        line("NC_1.2", 2, "C", "CG"),
        line("NC_1.2", 11, "A", "T"),  # a VCF has no R or N in REF, but the genome does
        line("NC_1.2", 11, "AC", "ACC,RCC"),
        line("four", 1, "A", "C,G"),
    )
    source = VariantFile(file, genome, mismatch="skip")
    got = [site for site in source if not site.is_header]
    symbolic = ["symbolic", "spanning_deletion", "symbolic", "symbolic", "no_alt", "no_alt", "breakend", "unknown_base"]
    assert got[0].statuses == ["ok", *symbolic]
    assert [site.statuses for site in got[1:]] == [
        ["ok", "ok", "too_long"], ["ok"], ["unknown_base"], ["no_record"], ["ref_mismatch"], ["ref_mismatch"],
        ["breakend"], ["ok"], ["unknown_base"], ["ok", "unknown_base"], ["no_record"] * 2,
    ]  # fmt: skip
    assert "2 records are not in the genome, and their 3 alleles have no score (four 2, three 1)" in caplog.text
    place = [(a.start, a.ref, a.alt.tolist()) for site in got for a in site.alleles if a]
    assert place[0] == (0, 1, [2])
    assert [length for _, length, _ in place[1:3]] == [3, 0] and place[3] == (13, 2, [3, 3])
    assert source.counts["ok"] == 6 and sum(source.counts.values()) == 24


def test_names_that_differ_by_version_or_old_style_are_matched(tmp_path, make_genome):
    genome = make_genome(
        {
            "gi|12|ref|NC_00001.2|": "ACGT",
            "chr": "ACGT",
            "NC_00007.1": "ACGT",
            "NC_00007.2": "ACGT",
            "scaffold.1": "ACGT",
        }
    )
    lines = [
        line(name, 1, "A", "C")
        for name in ("NC_00001.9", "NC_00001", "gi|9|ref|NC_00001.2|", "chr", "mine", "NC_00007.1")
    ]
    names = tmp_path / "names"
    names.write_text("mine\tchr\n\n")
    got = sites(vcf(tmp_path / "a.vcf", *lines), genome, rename=read_names(names))
    assert [site.alleles[0].start for site in got] == [0, 0, 0, 4, 4, 8]
    with pytest.raises(UserError, match=r"'NC_00007' may be NC_00007"):
        sites(vcf(tmp_path / "b.vcf", line("NC_00007", 1, "A", "C")), genome)
    (site,) = sites(vcf(tmp_path / "c.vcf", line("scaffold.2", 1, "A", "C")), genome)
    assert site.statuses == ["no_record"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line("two", 1, "G", "C")], "line 3: REF is G where the genome has C"),
        ([line("two", 8, "GT", "G")], "REF is GT where the genome has G "),
        (["two\t1\t.\tC"], "line 3: .*8 fields"),
        ([line("two", "1" * 5000, "C", "A")], "position must be a whole number"),
        ([line("two", "x", "C", "A")], "position must be a whole number"),
        ([line("two", 1, "C", "A!")], "ALT 'A!'"),
        ([line("two", 1, "", "A")], "REF must be letters"),
    ],
)
def test_a_bad_line_is_named(tmp_path, genome, lines, words):
    with pytest.raises(UserError, match=words):
        sites(vcf(tmp_path / "a.vcf", *lines), genome)


def test_other_files_are_refused(tmp_path, genome):
    for content, words in ((b"BCF\2\2", "bcftools view"), (b"a,b\n", "no file of variants"), (b"", "no file of")):
        (tmp_path / "a").write_bytes(gzip.compress(content))
        with pytest.raises(UserError, match=words):
            VariantFile(tmp_path / "a", genome)
    (tmp_path / "t.tsv").write_text("record\tpos\tref\talt\r\ntwo\t1\tC\tA\r\n")
    assert [site.statuses for site in sites(tmp_path / "t.tsv", genome)] == [["ok"]]


def rewrite(source, target, genome, value="-1.5", **kwargs):
    with VcfWriter(target, FIELDS, **kwargs) as writer:
        for site in VariantFile(source, genome):
            if site.is_header:
                writer.header(site.line)
            else:
                values = {"GENOSEQ_LLR": value, "GENOSEQ_PART": "test"} if "ok" in site.statuses and value else {}
                writer.write(site.line, values)
    return target.read_bytes()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_vcf_is_written_as_it_was_but_for_info(tmp_path, genome, end):
    contigs = HEAD.replace("#CHROM", "##contig=<ID=NC_1.2>\n##contig=<ID=two>\n#CHROM")
    lines = [line("two", 1, "C", "A", "DP=3;X"), line("two", 2, "C", "A,<DEL>"), line("two", 3, "C", ".", "DP=1")]
    file = vcf(tmp_path / "a.vcf", *lines, end=end, head=contigs)
    file.write_bytes(file.read_bytes().removesuffix(end.encode()).replace(b"X", "é".encode("latin-1")))
    text = rewrite(file, tmp_path / "new" / "out.vcf", genome)
    added = b"GENOSEQ_LLR=-1.5;GENOSEQ_PART=test"
    bare = b"".join(row for row in text.splitlines(keepends=True) if not row.startswith(b"##INFO=<ID=GENOSEQ"))
    assert bare.count(added) == 2 and bare.replace(b";" + added, b"").replace(added, b".") == file.read_bytes()
    assert gzip.decompress(rewrite(file, tmp_path / "out.vcf.gz", genome)) == text
    out = tmp_path / "new" / "out.vcf"
    # ours are refused, or replaced, also what the new run does not write
    with pytest.raises(UserError, match="GENOSEQ_LLR of an earlier run already; add overwrite=true"):
        rewrite(out, tmp_path / "no.vcf", genome)
    assert not list(tmp_path.glob("*no.vcf*"))
    assert rewrite(out, tmp_path / "yes.vcf", genome, overwrite=True) == text
    assert rewrite(out, tmp_path / "yes.vcf", genome, value="", overwrite=True).count(b"GENOSEQ") == 2  # headers


@pytest.mark.parametrize("reader", ["pysam", "bcftools", "tabix"])
def test_other_tools_read_what_is_written(tmp_path, genome, reader):
    dp, gt = ('=<ID={},Number=1,Type={},Description="">\n'.format(*x) for x in (("DP", "Integer"), ("GT", "String")))
    head = HEAD.replace("#CHROM", f"##contig=<ID=two>\n##INFO{dp}##FORMAT{gt}#CHROM")
    lines = [line("two", 1, "C", "A", "DP=3"), line("two", 2, "C", "A,<DEL>")]
    out = tmp_path / "out.vcf.gz"
    rewrite(vcf(tmp_path / "a.vcf", *lines, head=head), out, genome, value="-1.5,.")
    if reader == "pysam":
        pysam = pytest.importorskip("pysam")
        pysam.tabix_index(str(out), preset="vcf")
        with pysam.VariantFile(str(out)) as file:
            (site,) = file.fetch("two", 1, 2)
            assert site.info["GENOSEQ_LLR"] == (-1.5, None) and site.samples["s1"]["GT"] == (0, 1)
        return
    if shutil.which(reader) is None:
        pytest.skip(f"{reader} is not installed")
    where = [str(out), "two:2-2"] if reader == "tabix" else ["view", "-H", "-r", "two:2-2", str(out)]
    subprocess.run(["tabix", "-p", "vcf", out] if reader == "tabix" else ["bcftools", "index", out], check=True)
    found = subprocess.run([reader, *where], check=True, capture_output=True, text=True)
    assert found.stdout.count("\n") == 1 and "GENOSEQ_LLR=-1.5,." in found.stdout and not found.stderr


def test_a_pipe_is_read(tmp_path, genome):
    os.mkfifo(tmp_path / "pipe")
    content = gzip.compress((HEAD + line("two", 1, "C", "A") + "\n").encode())
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert [site.statuses for site in sites(tmp_path / "pipe", genome)] == [["ok"]]
    writer.join()


def haplotypes(changes):
    return [changes.haplotype(i, 0, 10**6, True).tolist() for i in range(len(changes))]


@given(st.data())
def test_left_alignment_keeps_the_haplotype_and_joins_all_copies_of_an_indel(genome_of_codes, data):
    codes = np.array(data.draw(st.lists(st.integers(1, 2), min_size=8, max_size=30)), dtype=np.uint8)
    genome = genome_of_codes(codes)
    start, size = data.draw(st.integers(1, len(codes) - 3)), data.draw(st.integers(1, 3))
    delete = data.draw(st.booleans())
    alt = np.array([] if delete else data.draw(st.lists(st.integers(1, 2), min_size=size, max_size=size)), np.uint8)
    ref = min(size, len(codes) - start) if delete else 0
    one = changes_in(genome, np.array([start]), np.array([ref]), [alt], 5)
    aligned = one.left_aligned()
    assert haplotypes(one) == haplotypes(aligned)
    copies = []  # every way to write the same edit
    for at in range(len(codes) - ref + 1):
        whole = haplotypes(one)[0]
        other = np.array(whole[at : at + len(alt)], dtype=np.uint8)
        same = changes_in(genome, np.array([min(at, len(codes) - 1)]), np.array([ref]), [other], 5)
        if at < len(codes) and haplotypes(same) == haplotypes(one):
            copies.append(same.left_aligned())
    assert {(int(c.start[0]), tuple(c.alt[0].tolist())) for c in copies} == {
        (int(aligned.start[0]), tuple(aligned.alt[0].tolist()))
    }
    # the other strand of the other strand is the strand
    turned = aligned.reverse_complement(genome.reverse_complement().codes.numpy())
    assert haplotypes(turned.reverse_complement(codes)) == haplotypes(one)


def test_edits_and_substitutions_that_are_made(make_genome):
    genome = make_genome({"one": "GGGGACCNCC", "two": "CCCATTTTTC" + "ACGT" * 200})
    edits = homopolymer_edits(genome, np.array([[0, len(genome)]]), 3)
    assert edits.start.tolist() == [0, 0, 10, 10, 14, 14] and edits.ref.tolist() == [1, 0] * 3
    assert [alt.tolist() for alt in edits.alt] == [[], [4], [], [2], [], [3]]
    every = saturation(genome, 4, 9, 3)
    assert every.start.tolist() == [4] * 3 + [5] * 3 + [6] * 3 + [8] * 3
    assert {tuple(alt) for alt in every.alt[:3]} == {(2,), (3,), (4,)}
    drawn = random_substitutions(genome, np.array([[30, 500]]), 7, 0, 3)
    kinds = {(int(genome.codes[at]), int(alt[0])) for at, alt in zip(drawn.start, drawn.alt, strict=True)}
    assert len(drawn) == 7 * 12 and len(kinds) == 12 and drawn.start.min() >= 30 and drawn.start.max() < 500
