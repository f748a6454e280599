"""BERT's parts, on which the fused rooms stand: text embedding, encoder, pooler. arXiv:1810.04805, section 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.errors import ShapeError
from diptych.nn.attention import SelfAttention
from diptych.nn.packing import Packing
from diptych.nn.recompute import run_block
from diptych.nn.transformer import LayerNorm, PostNormBlock

EPS = 1e-12
"""Of every norm of BERT."""
STD = 0.02
"""Of weights that are drawn, where nothing else is said."""


class BertTextEmbedding(nn.Module):
    """Word, position and type of each token, summed and normed."""

    def __init__(self, vocab_size: int, positions: int, types: int, width: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(positions, width)
        self.types = nn.Embedding(types, width)
        self.norm = LayerNorm(width, EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        """(B, T) ids, and types or type 0, to (B, T, D).

        Raises:
            ShapeError: the texts are longer than the table of positions.
        """
        length, most = ids.shape[1], self.positions.num_embeddings
        if length > most:
            raise ShapeError(f"texts of {length} tokens; the table of positions has {most}: cut them to it")
        of_type = self.types.weight[0] if types is None else self.types(types)
        return self.dropout(self.norm(self.words(ids) + self.positions.weight[:length] + of_type))


class BertEncoder(nn.Module):
    """Post-norm blocks over the real tokens of each row."""

    def __init__(
        self, width: int, depth: int, heads: int, mlp_width: int, *, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PostNormBlock(width, heads, mlp_width, dropout=dropout, attention_dropout=attention_dropout, eps=EPS)
            for _ in range(depth)
        )

    def forward(self, hidden: Tensor, mask: Tensor, *, read: Tensor | None = None, recompute: bool = False) -> Tensor:
        """The states after the last layer.

        Args:
            hidden: (B, L, D).
            mask: (B, L) bool, True where real, and somewhere in every row; real positions may stand anywhere.
            read: (B, L) bool, the positions whose states are read: the last block is for them alone; None: for all.
            recompute: drop what blocks keep for the backward pass and compute it again there.
        Returns:
            (B, L, D), zero where padded or not read.
        """
        packing = Packing.of(mask)
        packed = packing.pack(hidden)
        *first, last = self.blocks
        for block in first:
            packed = run_block(block, packed, packing, recompute=recompute)
        places = None if read is None else packing.pack(read).nonzero().squeeze(1)  # (M,) in N
        return packing.unpack(run_block(last, packed, packing, places, recompute=recompute), places)

    def attention(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """How much each position attends to each other in every layer, on the way that `forward` goes.

        Args:
            hidden: (B, L, D).
            mask: (B, L) bool.
        Returns:
            (depth, B, H, L, L); rows of padded positions mean nothing.
        """
        packing = Packing.of(mask)
        packed, weights = packing.pack(hidden), []
        for block in self.blocks:
            assert isinstance(block, PostNormBlock), "they all are"
            weights.append(block.attn.weights(packing.unpack(packed), mask))
            packed = block(packed, packing)
        return torch.stack(weights)


class BertPooler(nn.Module):
    """The state of the first token, projected: what stands for the whole row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, D) to (B, D)."""
        return torch.tanh(self.dense(hidden[:, 0]))


def draw_as_bert(module: nn.Module, std: float = STD) -> None:
    """Draws the weights of one module, for `nn.Module.apply`: normal ones of `std`, biases 0; norms are as they come.

    As released; BERT's own draw leaves out what lies two deviations off. arXiv:1810.04805, released code.
    """
    match module:
        case nn.Linear():
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        case nn.Embedding():
            nn.init.normal_(module.weight, std=std)
        case SelfAttention():
            nn.init.normal_(module.in_proj_weight, std=std)
