"""Intermediate fusion: one encoder a modality, one fused vector, one head; any modality may be missing.

Built in notebook 03. After Arevalo et al. 2017 (arXiv:1702.01992) for gates, Vaswani et al. 2017
(1706.03762) for attention, Liu et al. 2018 (1806.00064) for the low-rank tensor, Neverova et al. 2016
(1501.00102) for dropout of modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mmteach.solutions import gated_fusion, low_rank_tensor_fusion, modality_dropout
from mmteach.train import batches, device, one_cycle, seed_everything

Tensors = Mapping[str, torch.Tensor]
Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Hide = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class FusionOutput:
    """Fused class scores (B, C), and those of each modality's own head."""

    logits: torch.Tensor
    unimodal: dict[str, torch.Tensor]


class Concat(nn.Module):
    """The codes side by side, mixed by one hidden layer."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(count * width, width), nn.GELU())

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.mix(codes.flatten(1))


class Gated(nn.Module):
    """A weighted sum of the codes, the weights read from all codes together, one for each feature."""

    def __init__(self, count: int, width: int, rule: Rule = gated_fusion) -> None:
        super().__init__()
        self.rule = rule
        self.gate = nn.Linear(count * width, count * width)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.rule(codes, self.gate.weight, self.gate.bias)


class Attention(nn.Module):
    """A question token that looks at the codes, each marked by a learned name tag."""

    def __init__(self, count: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.question = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.tags = nn.Parameter(0.02 * torch.randn(1, count, width))
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([self.question.expand(len(codes), -1, -1), codes + self.tags], dim=1)
        return self.layer(tokens)[:, 0]


class LowRankTensor(nn.Module):
    """The product of all codes with one another, its weight tensor written as a sum of `rank` outer
    products."""

    def __init__(self, count: int, width: int, rank: int = 8, rule: Rule = low_rank_tensor_fusion) -> None:
        super().__init__()
        self.rule = rule
        self.factors = nn.Parameter(torch.randn(count, rank, width + 1, width) / (width + 1) ** 0.5)
        with torch.no_grad():
            self.factors[:, :, -1] = (
                1.0  # each factor starts near 1, so that the product neither dies nor explodes
            )
        self.weights = nn.Parameter(torch.randn(rank) / rank**0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.norm(self.rule(codes, self.factors, self.weights) + self.bias)


FUSIONS = {"concat": Concat, "gated": Gated, "attention": Attention, "tensor": LowRankTensor}


def vector_encoder(dim: int, width: int, dropout: float = 0.3) -> nn.Sequential:
    """Return an encoder of plain vectors: (B, dim) -> (B, width)."""
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(dim, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)
    )


class FusionNet(nn.Module):
    """Encoders by name, a fusion of their codes, a head on top, and a head of its own for each modality.

    encoders: name -> module from that modality's tensor to (B, width). fusion: concat, gated, attention,
    tensor, or a module (B, M, width) -> (B, width). Where a modality is missing its learned null token
    stands in, and its tensor is never looked at.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], num_classes: int, *, width: int = 64,
        fusion: str | nn.Module = "concat", dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(fusion, str) and fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        self.names = sorted(encoders)
        self.encoders = nn.ModuleDict({name: encoders[name] for name in self.names})
        self.null = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names})
        self.unimodal = nn.ModuleDict({name: nn.Linear(width, num_classes) for name in self.names})
        self.fusion = FUSIONS[fusion](len(self.names), width) if isinstance(fusion, str) else fusion
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))

    def forward(self, inputs: Tensors, present: Tensors | None = None) -> FusionOutput:
        """Return the scores of a batch.

        inputs: name -> (B, ...), in any order, one for every encoder. present: name -> bool (B,), true where
        the row has that modality; names left out, and None, mean all present. Raises ValueError for a name
        that is lacking or unknown.
        """
        if set(inputs) != set(self.names):
            raise ValueError(
                f"this network knows the modalities {self.names}, but the inputs are {sorted(inputs)}"
            )
        unknown = set(present or ()) - set(self.names)
        if unknown:
            raise ValueError(
                f"present names {sorted(unknown)}, which this network does not know: {self.names}"
            )
        here = {name: (present or {}).get(name) for name in self.names}
        codes = {name: self._code(name, inputs[name], here[name]) for name in self.names}
        fused = self.fusion(torch.stack([codes[name] for name in self.names], dim=1))  # (B, M, width)
        return FusionOutput(self.head(fused), {name: self.unimodal[name](codes[name]) for name in self.names})

    def _code(self, name: str, values: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """Return (B, width): the code where the modality is present, its null token elsewhere."""
        if present is None or bool(present.all()):
            return self.encoders[name](values)
        codes = self.null[name].expand(len(values), -1)
        if not present.any():
            return codes
        return codes.index_put((present,), self.encoders[name](values[present]).to(codes.dtype))


def train_fusion(
    net: FusionNet, inputs: Tensors, labels: torch.Tensor, *, steps: int, batch_size: int = 256, lr: float =
    2e-3, seed: int = 0, drop: float = 0.0, unimodal_weight: float = 0.0, weight_decay: float = 0.05,
    present: Tensors | None = None, smoothing: float = 0.1, hide: Hide = modality_dropout,
) -> FusionNet:  # fmt: skip
    """Train `net` in place on inputs name -> (N, ...) and labels int64 (N,); return it in eval mode.

    drop: the chance of hiding each modality of a row, by the rule `hide`. unimodal_weight: how much the
    losses of the modalities' own heads count beside the fused one. The same seed gives the same batches and
    drops.
    """
    generator, where = seed_everything(seed), device()
    net.to(where).train()
    have = torch.stack([_presence(present, name, len(labels)) for name in net.names], dim=1)  # (N, M)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = one_cycle(optimizer, steps)
    for rows in batches(len(labels), batch_size, steps, generator):
        here = hide(have[rows], drop, generator) if drop else have[rows]
        masks = {name: here[:, i].to(where) for i, name in enumerate(net.names)}
        target = labels[rows].to(where)
        out = net({name: inputs[name][rows].to(where) for name in net.names}, masks)
        loss = F.cross_entropy(out.logits, target, label_smoothing=smoothing)
        if unimodal_weight:
            loss = loss + unimodal_weight * unimodal_loss(out.unimodal, masks, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def unimodal_loss(unimodal: Tensors, present: Tensors, target: torch.Tensor) -> torch.Tensor:
    """Return the sum over modalities of the cross-entropy of its own head, on the rows that have it."""
    losses = [
        F.cross_entropy(unimodal[n][present[n]], target[present[n]]) for n in unimodal if present[n].any()
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def mean_as_null(net: FusionNet, inputs: Tensors) -> None:
    """Set each null token to the mean code of that modality: a fair stand-in where training never hid any."""
    for name in net.names:
        codes = [net.encoders[name](part.to(net.null[name].device)) for part in inputs[name].split(1024)]
        net.null[name].copy_(torch.cat(codes).mean(dim=0))


@torch.no_grad()
def predict_fusion(net: FusionNet, inputs: Tensors, present: Tensors | None = None) -> FusionOutput:
    """Return the scores of all rows, on the CPU, 1,024 rows at a time; the network is left as it was."""
    was_training, where = net.training, next(net.parameters()).device
    net.eval()
    count = len(next(iter(inputs.values())))
    parts = []
    for rows in torch.arange(count).split(1024):
        masks = {name: mask[rows].to(where) for name, mask in (present or {}).items()}
        parts.append(net({name: values[rows].to(where) for name, values in inputs.items()}, masks))
    net.train(was_training)
    unimodal = {name: torch.cat([part.unimodal[name] for part in parts]).cpu() for name in net.names}
    return FusionOutput(torch.cat([part.logits for part in parts]).cpu(), unimodal)


def _presence(present: Tensors | None, name: str, count: int) -> torch.Tensor:
    mask = (present or {}).get(name)
    return torch.ones(count, dtype=torch.bool) if mask is None else mask.cpu()
