"""Captions as numbers: words, pieces of words and Chinese characters, each hashed to a row of a table.

Used by `embed` (notebook 06) and `prior` (notebook 07): no vocabulary, no download, and a word never seen still has
known pieces. After Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information" (arXiv:1607.04606).
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

BUCKETS = 4096
LONGEST = 400  # characters read of a caption; the rest is ignored
_WORD = re.compile(r"[㐀-鿿]|[^\W_]+")


def words(caption: str) -> list[str]:
    """Return the words of a caption in lower case without accents; every Chinese character is a word of its own."""
    plain = unicodedata.normalize("NFKD", caption[:LONGEST].lower())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def pieces(caption: str) -> list[str]:
    """Return what a caption is looked up by: its words, the trigrams of each `<word>`, and pairs of Chinese characters.

    >>> pieces("red")
    ['red', '#<re', '#red', '#ed>']
    """
    found, before = [], ""
    for word in words(caption):
        chinese = "㐀" <= word <= "鿿"
        edged = f"<{word}>"
        found.append(word)
        if chinese and before:
            found.append(f"#{before}{word}")
        elif not chinese:
            found += [f"#{edged[i : i + 3]}" for i in range(len(edged) - 2)]
        before = word if chinese else ""
    return found


@lru_cache(maxsize=65536)
def _rows(caption: str, buckets: int) -> tuple[int, ...]:
    return tuple(zlib.crc32(piece.encode()) % buckets for piece in pieces(caption))


class CaptionBag(nn.Module):
    """Captions to vectors: the mean of the table's rows for a caption's pieces. Captions without pieces give zeros.

    rare: the mean is weighted by how rare each piece is in what was given to `count`, as in TF-IDF: 'with' says little,
    'robot' much, and a piece not met there nothing, for its row was never trained.
    """

    rarity: Tensor

    def __init__(self, dim: int, buckets: int = BUCKETS, *, rare: bool = False) -> None:
        super().__init__()
        self.buckets, self.rare = buckets, rare
        self.table = nn.EmbeddingBag(buckets, dim, mode="sum" if rare else "mean")
        if rare:
            self.register_buffer("rarity", torch.ones(buckets))

    def count(self, things: Sequence[Sequence[str]]) -> None:
        """Set each row's weight to ln((1 + N) / n), where n of N things have the piece in a caption; 0 where none has.

        things: for each of N things all that it may be called. Source: Spärck Jones 1972, doi:10.1108/eb026526.
        """
        having = torch.zeros(self.buckets)
        for captions in things:
            having[list({row for caption in captions for row in _rows(caption, self.buckets)})] += 1
        weight = ((1 + len(things)) / having.clamp(min=1)).log()
        self.rarity.copy_(torch.where(having > 0, weight, 0.0))

    def known(self, captions: Sequence[str]) -> Tensor:
        """Return which captions have a piece that says something, bool (B,)."""
        weight = self.rarity.cpu() if self.rare else torch.ones(self.buckets)
        return torch.tensor([bool((weight[list(_rows(each, self.buckets))] > 0).any()) for each in captions])

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Return float (B, dim)."""
        rows = [_rows(caption, self.buckets) for caption in captions]
        where = self.table.weight.device
        flat = torch.tensor([row for each in rows for row in each], dtype=torch.int64, device=where)
        starts = torch.tensor([0, *map(len, rows)], dtype=torch.int64).cumsum(0)[:-1].to(where)
        if not self.rare:
            return self.table(flat, starts)
        caption = torch.arange(len(rows), device=where).repeat_interleave(
            torch.tensor([len(r) for r in rows]).to(where)
        )
        weight = self.rarity[flat].to(self.table.weight.dtype)
        whole = weight.new_zeros(len(rows)).index_add_(0, caption, weight)
        return self.table(flat, starts, weight / whole.clamp(min=1e-6)[caption])
