"""What travels from the loader to the model: start positions, and after the gather, tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Batch:
    """One step's windows, or one chunk of evaluation streams.

    Attributes
    ----------
    starts : Tensor
        First base of each row, int64 (B,).
    flip : Tensor or None
        Rows to be read on the reverse strand, bool (B,); None = all forward.
    length : int
        Predictions a row, L.
    step : int
        Training step (drives dropout's seed); 0 in evaluation.
    scored : Tensor or None
        Rows × positions that count, bool (B, L); None = all.
    group : Tensor or None
        Index of each row's record for figures by record, int64 (B,).
    carry : bool
        Whether the state goes on from the batch before.
    tokens : Tensor or None
        int64 (B, L + 1), filled on the model's device.
    """

    starts: Tensor
    length: int
    flip: Tensor | None = None
    step: int = 0
    scored: Tensor | None = None
    group: Tensor | None = None
    carry: bool = False
    tokens: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move every tensor to `device`; Lightning calls this."""
        for name in ("starts", "flip", "scored", "group", "tokens"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value.to(device, non_blocking=non_blocking))
        return self

    def __len__(self) -> int:
        return len(self.starts)


class Gather:
    """Token lookup on one device: the genome's tokens, and the table to the other strand.

    Parameters
    ----------
    tokens : Tensor
        The token at every base position, shape (n_bases,), any integer type.
    reverse_complement : Tensor
        From token to the same bases on the other strand, int64 (V,).
    stride : int
        Bases from one token to the next.
    """

    def __init__(self, tokens: Tensor, reverse_complement: Tensor, stride: int) -> None:
        self.tokens, self.reverse_complement, self.stride = tokens, reverse_complement, stride

    def to(self, device: torch.device) -> Gather:
        """Return the same lookup on `device` (a byte or two a base moves there once)."""
        return Gather(self.tokens.to(device), self.reverse_complement.to(device), self.stride)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the batch's tokens, int64 (B, length + 1)."""
        offset = torch.arange(batch.length + 1, device=self.tokens.device) * self.stride
        if batch.flip is None:
            # a stream that ended before its neighbours reads on, past the genome's end if need be; none of it is scored
            return self.tokens[(batch.starts[:, None] + offset).clamp_(max=len(self.tokens) - 1)].long()
        # the other strand visits the same positions from the right-hand end
        order = torch.where(batch.flip[:, None], offset.flip(0), offset)
        tokens = self.tokens[batch.starts[:, None] + order].long()
        return torch.where(batch.flip[:, None], self.reverse_complement[tokens], tokens)
