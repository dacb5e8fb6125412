"""Regions of a genome, as users name them."""

from __future__ import annotations

import re

from genoseq.data.genome import Genome
from genoseq.errors import UserError


def parse_region(text: object, genome: Genome) -> tuple[int, int]:
    """Return the first base and the end, in ``Genome.codes``, of ``NAME:1000-1200`` (1-based, inclusive) or ``NAME``.

    Of a genome with one record, ``1000-1200`` is enough.
    """
    names = {record.name: record for record in genome.records}
    if (whole := names.get(str(text))) is not None:
        return whole.start, whole.end
    found = re.fullmatch(r"(?:(.+):)?([\d,]+)-([\d,]+)", str(text))
    if found is None:
        raise UserError(f"region={text} is neither NAME:FIRST-LAST, 1-based and inclusive, nor the name of a record")
    name = found[1] or (genome.records[0].name if len(names) == 1 else "")
    if name not in names:
        some = ", ".join(list(names)[:8]) + (", …" if len(names) > 8 else "")
        raise UserError(f"region={text} names no record of genome '{genome.name}'; its records are {some}")
    record, first, last = names[name], *(int(number.replace(",", "") or 0) for number in found.groups()[1:])
    if not 1 <= first <= last <= record.length:
        raise UserError(f"region={text} is not inside '{name}', which has {record.length:,} bases")
    return record.start + first - 1, record.start + last
