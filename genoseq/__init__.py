"""genoseq: train, sweep, measure and use next-token models of genomes."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("genoseq")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> object:
    if name == "load":  # not before it is asked for: it imports torch
        from genoseq.app.model import load

        return load
    raise AttributeError(f"module 'genoseq' has no attribute '{name}'")
