"""``python -m genoseq.cache [clear]``: how large the cached tokens of large genomes are; remove them."""

from __future__ import annotations

import sys

from genoseq.data.cache import clear, size
from genoseq.data.fetch import cache_folder


def main() -> None:
    """Print where the cache is and what it holds, after removing the tokens if the command says ``clear``."""
    if sys.argv[1:] not in ([], ["clear"]):
        raise SystemExit("genoseq.cache takes nothing, or clear")
    folder = cache_folder()
    if sys.argv[1:]:
        files, removed = clear(folder)
        print(f"{files} files of {removed / 1e6:,.0f} MB were removed.")
    print(f"{folder / 'tokens'}: {size(folder) / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
