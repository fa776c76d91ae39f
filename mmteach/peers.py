"""Peers beside our own: autoencoders around the quantizers of other packages, and a GAN loop as everybody knows it.

Used by `python -m mmteach bench` alone; the packages come with the extra `bench`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmteach.codebook import Codebook
from mmteach.train import batches, device, seed_everything, to_float, to_pictures
from mmteach.vqvae import VQVAE

CODES, DIM = 512, 32
DECAY, BETA, RESTART = 0.99, 0.25, 0.1  # what "tuned alike" brings the peers to


@dataclass
class Coder:
    """An autoencoder with a quantizer: what it minimises on x (B, C, H, W), what it makes of x, the quantizer alone.

    loss: x -> scalar; rebuild: x -> (x_hat (B, C, H, W), indices int64 (B, h, w)); quantize: z_e (B, D, h, w) ->
    (z_q, its loss)
    """

    model: nn.Module
    loss: Callable[[Tensor], Tensor]
    rebuild: Callable[[Tensor], tuple[Tensor, Tensor]]
    quantize: Callable[[Tensor], tuple[Tensor, Tensor]]


def halves(seed: int) -> VQVAE:
    """Return the model whose encoder and decoder every coder gets, with the same weights from the same seed."""
    torch.manual_seed(seed)
    return VQVAE(Codebook(CODES, DIM, DECAY, beta=BETA, restart=RESTART))


def ours(seed: int) -> Coder:
    """Return our codebook, as shipped."""
    model = halves(seed)

    def loss(x: Tensor) -> Tensor:
        out = model(x)
        return F.mse_loss(out.x_hat, x) + out.codes.commitment_loss

    def quantize(z_e: Tensor) -> tuple[Tensor, Tensor]:
        codes = model.quantizer(z_e)
        return codes.z_q, codes.commitment_loss

    return Coder(model, loss, lambda x: (model(x).x_hat, model.encode(x)), quantize)


def vector_quantize(seed: int, **settings: Any) -> Coder:
    """Return the quantizer of vector-quantize-pytorch with `settings` beyond its own. Raises ImportError."""
    from vector_quantize_pytorch import VectorQuantize

    half = halves(seed)
    quantizer = VectorQuantize(dim=DIM, codebook_size=CODES, accept_image_fmap=True, **settings)
    model = nn.ModuleDict({"encoder": half.encoder, "quantizer": quantizer, "decoder": half.decoder})

    def quantize(z_e: Tensor) -> tuple[Tensor, Tensor]:
        z_q, _, commitment = quantizer(z_e)
        return z_q, commitment.sum()

    def loss(x: Tensor) -> Tensor:
        z_q, commitment = quantize(half.encoder(x))
        return F.mse_loss(half.decoder(z_q), x) + commitment

    def rebuild(x: Tensor) -> tuple[Tensor, Tensor]:
        z_q, indices, _ = quantizer(half.encoder(x))
        return half.decoder(z_q), indices

    return Coder(model, loss, rebuild, quantize)


def pythae(seed: int, **settings: Any) -> Coder:
    """Return the VQVAE of pythae with `settings` beyond its own, around our two networks. Raises ImportError."""
    from pythae.models import VQVAE as Theirs
    from pythae.models import VQVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    half = halves(seed)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = half.encoder

        def forward(self, x: Tensor) -> Any:
            return ModelOutput(embedding=self.net(x))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = half.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    config = VQVAEConfig(input_dim=(3, 32, 32), latent_dim=DIM, num_embeddings=CODES, **settings)
    model = Theirs(config, encoder=Encoder(), decoder=Decoder())

    def rebuild(x: Tensor) -> tuple[Tensor, Tensor]:
        out = model({"data": x})
        return out.recon_x, out.quantized_indices.squeeze(1)

    def quantize(z_e: Tensor) -> tuple[Tensor, Tensor]:
        out = model.quantizer(z_e.permute(0, 2, 3, 1))
        return out.quantized_vector, out.loss

    return Coder(model, lambda x: model({"data": x}).loss, rebuild, quantize)


def tuned_vector_quantize(seed: int) -> Coder:
    """Return vector-quantize-pytorch with our decay, weight and start, and codes restarted under the same count."""
    threshold = (
        RESTART * 64 * 64 / CODES
    )  # our floor is a share of the mean count: a batch gives 64 x 64 vectors
    return vector_quantize(
        seed,
        decay=DECAY,
        commitment_weight=BETA,
        kmeans_init=True,
        threshold_ema_dead_code=threshold,
        rotation_trick=False,
    )


def tuned_pythae(seed: int) -> Coder:
    """Return pythae with its EMA quantizer and our decay; its error is a sum over 3 x 32 x 32, so beta must be too."""
    return pythae(seed, use_ema=True, decay=DECAY, commitment_loss_factor=BETA * 3 * 32 * 32)


CODERS: dict[str, tuple[str, Callable[[int], Coder]]] = {
    "mmteach": ("", ours),
    "vector-quantize-pytorch, as shipped": ("vector-quantize-pytorch", vector_quantize),
    "vector-quantize-pytorch, tuned alike": ("vector-quantize-pytorch", tuned_vector_quantize),
    "pythae, as shipped": ("pythae", pythae),
    "pythae, tuned alike": ("pythae", tuned_pythae),
}


class Dcgan:
    """A GAN trained as in PyTorch's DCGAN example: transposed convolutions, BatchNorm, cross-entropy, Adam.

    Source: Radford et al. 2016 (arXiv:1511.06434), section 3, and its table of settings.
    """

    def __init__(self, images: np.ndarray, *, batch_size: int, seed: int, width: int = 32) -> None:
        self.picks = batches(len(images), batch_size, 10**9, seed_everything(seed))
        self.data, self.steps, self.z_dim = torch.from_numpy(images).to(device()), 0, 100
        self.g = dcgan_generator(self.z_dim, width).apply(first_weights).to(device())
        self.d = dcgan_discriminator(width * 4 // 3).apply(first_weights).to(device())
        self.g_opt, self.d_opt = (
            torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (self.g, self.d)
        )

    def go_on(self, seconds: float) -> int:
        """Train for `seconds` more; return the steps that were done in them."""
        before, end = self.steps, time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn(to_float(self.data[next(self.picks).to(device())]))
            self.steps += 1
        return self.steps - before

    def turn(self, real: Tensor) -> None:
        """Let the discriminator learn, then the generator."""
        ones, zeros = torch.ones(len(real), device=device()), torch.zeros(len(real), device=device())
        fake = self.g(torch.randn(len(real), self.z_dim, 1, 1, device=device()))
        self.d_opt.zero_grad()
        F.binary_cross_entropy(self.d(real), ones).backward()
        F.binary_cross_entropy(self.d(fake.detach()), zeros).backward()
        self.d_opt.step()
        self.g_opt.zero_grad()
        F.binary_cross_entropy(self.d(fake), ones).backward()
        self.g_opt.step()

    def size(self) -> int:
        """Return how many weights the two networks have."""
        return sum(each.numel() for net in (self.g, self.d) for each in net.parameters())

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Return n pictures uint8 (n, 32, 32, 3)."""
        z = torch.randn(n, self.z_dim, 1, 1, generator=torch.Generator().manual_seed(seed))
        self.g.eval()
        made = np.concatenate([to_pictures(self.g(part.to(device()))) for part in z.split(256)])
        self.g.train()
        return made


def dcgan_generator(z_dim: int, width: int) -> nn.Sequential:
    """Return a network from (B, z_dim, 1, 1) to (B, 3, 32, 32) in [-1, 1]."""

    def layers() -> Iterator[nn.Module]:
        sizes = [z_dim, 4 * width, 2 * width, width]
        for i, (a, b) in enumerate(pairwise(sizes)):
            yield nn.ConvTranspose2d(a, b, 4, stride=min(i, 1) + 1, padding=min(i, 1), bias=False)
            yield from (nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        yield from (nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1, bias=False), nn.Tanh())

    return nn.Sequential(*layers())


def dcgan_discriminator(width: int) -> nn.Sequential:
    """Return a network from (B, 3, 32, 32) to the probability (B,) that a picture is real."""

    def layers() -> Iterator[nn.Module]:
        yield from (nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2, inplace=True))
        for a, b in ((width, 2 * width), (2 * width, 4 * width)):
            yield from (nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(b))
            yield nn.LeakyReLU(0.2, inplace=True)
        yield from (nn.Conv2d(4 * width, 1, 4, bias=False), nn.Sigmoid(), nn.Flatten(0))

    return nn.Sequential(*layers())


def first_weights(layer: nn.Module) -> None:
    """Draw the weights of `layer` as the paper does: normal with 0.02, BatchNorm's about 1."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
