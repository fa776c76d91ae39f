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
    """Captions to vectors: the mean of the table's rows for a caption's pieces. Captions without pieces give zeros."""

    def __init__(self, dim: int, buckets: int = BUCKETS) -> None:
        super().__init__()
        self.buckets = buckets
        self.table = nn.EmbeddingBag(buckets, dim, mode="mean")

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Return float (B, dim)."""
        rows = [_rows(caption, self.buckets) for caption in captions]
        where = self.table.weight.device
        flat = torch.tensor([row for each in rows for row in each], dtype=torch.int64, device=where)
        starts = torch.tensor([0, *map(len, rows)], dtype=torch.int64).cumsum(0)[:-1].to(where)
        return self.table(flat, starts)
