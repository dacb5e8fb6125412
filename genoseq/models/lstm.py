"""Embedding, LSTM, linear: the report's Models 1, 2 and 3 are three sizes of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


class LSTM(nn.Module):
    """A recurrent next-token model that reads a whole sequence in one call.

    Parameters
    ----------
    vocab_size : int
        Token ids in and out, V.
    embed_dim, hidden_size, num_layers : int
        Widths of the embedding and of each LSTM layer, and how many layers.
    dropout : float
        Probability of a zero between layers in training (Lightning's module reseeds it every step).
    output_dropout : float
        Probability of a zero in the last layer's output in training.
    forget_bias : float
        Initial bias of the forget gates. A 1 lets a new network remember (Jozefowicz, Zaremba and Sutskever,
        "An empirical exploration of recurrent network architectures", 2015); 0 is PyTorch's own start.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 128,
        hidden_size: int = 1024,
        num_layers: int = 1,
        dropout: float = 0.0,
        forget_bias: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.lstm = nn.LSTM(
            embed_dim, hidden_size, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        self.output_dropout = nn.Dropout(output_dropout)
        self.head = nn.Linear(hidden_size, vocab_size)
        if forget_bias:
            with torch.no_grad():
                for layer in range(num_layers):  # gates lie in the order input, forget, cell, output
                    getattr(self.lstm, f"bias_hh_l{layer}")[hidden_size : 2 * hidden_size] += forget_bias

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the logits of each next token, and the state after the last.

        Parameters
        ----------
        tokens : Tensor
            int64 (B, L).
        state : tuple of Tensor, optional
            Hidden and cell state, each (num_layers, B, hidden_size); zeros by default.

        Returns
        -------
        logits : Tensor
            (B, L, V).
        state : tuple of Tensor
        """
        states, state = self.hidden(tokens, state)
        return self.head(self.output_dropout(states)), state

    def hidden(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the last layer's output at each token, (B, L, hidden_size), and the state after the last."""
        states, state = self.lstm(self.embedding(tokens), state)
        return states, state
