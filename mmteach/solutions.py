"""Reference solutions of the exercises, the one source that checks, notebooks and tests read.

A function here has the name of its exercise; `check.<name>` judges a reader's version against it and
`check.solution("<name>")` shows its text folded away. Each stands alone on numpy (`np`) and torch.
"""

from __future__ import annotations

import numpy as np
import torch

# Notebook 00


def grey(picture):
    """Brightness as the eye weighs it: picture (H, W, 3) uint8 -> (H, W) float, 0 black to 255 white."""
    red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def average_picture(pictures):
    """The mean of every pixel over pictures (N, H, W, 3) uint8 -> (H, W, 3) float."""
    return pictures.astype(np.float64).mean(axis=0)


def contact_sheet(pictures, columns):
    """Pictures (N, H, W, 3), N = rows * columns, laid out row by row -> (rows * H, columns * W, 3)."""
    n, height, width, channels = pictures.shape
    grid = pictures.reshape(n // columns, columns, height, width, channels)
    return grid.swapaxes(1, 2).reshape(n // columns * height, columns * width, channels)


# Notebook 01


def missing_rate(present, group):
    """Share missing in each group: present (N, S) bool, group (N,) names -> (G, S) float, groups in sorted order."""
    return np.array([1 - present[group == name].mean(axis=0) for name in np.unique(group)])


def duplicates(pictures):
    """Sets of identical pictures (N, H, W, 3) -> list of lists of row numbers, two or more rows each."""
    rows = {}
    for row, picture in enumerate(pictures):
        rows.setdefault(picture.tobytes(), []).append(row)
    return [same for same in rows.values() if len(same) > 1]


def nearest_neighbour(queries, keys):
    """Row of the key nearest to each query, in Euclidean distance: (Q, D), (K, D) -> (Q,) int."""
    a, b = queries.astype(np.float32), keys.astype(np.float32)
    squared = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return squared.argmin(axis=1)


def deal_folds(units, folds, seed):
    """Fold of every row, 0 to folds - 1, rows of one unit together: units (N,) names -> (N,) int."""
    names, unit = np.unique(units, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    return shuffled[unit] % folds


# Notebook 02


def tf_idf(counts, train_counts):
    """Weigh words by how often they stand here and how rare they are in training; every row gets length 1."""
    documents = len(train_counts)
    containing = (train_counts > 0).sum(axis=0)
    rarity = np.log((1 + documents) / (1 + containing)) + 1
    weights = counts * rarity
    length = np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return weights / np.where(length > 0, length, 1)


def colour_histogram(picture, bins=4):
    """Share of the pixels of uint8 (H, W, 3) in each of bins**3 boxes of (red, green, blue)."""
    level = picture.reshape(-1, 3).astype(int) * bins // 256
    box = (level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]
    return np.bincount(box, minlength=bins**3) / len(box)


def mel_filterbank(n_mels, n_fft, sample_rate):
    """Triangles of height 1, evenly spaced in mels from 0 to half the sample rate: (n_mels, n_fft // 2 + 1)."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (frequency - low) / (peak - low)
    falling = (high - frequency) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling))


def patch_codes(patches, atoms):
    """Triangle code: by how much each of (K, D) atoms is nearer to each of (P, D) patches than they are on average."""
    squares = (patches**2).sum(axis=1)[:, None] - 2 * patches @ atoms.T + (atoms**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares, 0))
    return np.maximum(0, distance.mean(axis=1, keepdims=True) - distance)


# Notebook 03


def late_fusion(log_probs, weights):
    """Return the fused log-probabilities: the weighted sum of the modalities' own, made to sum to one again.

    log_probs: (M, ..., C) of M modalities; weights: (M,) -> (..., C), float64
    """
    scores = np.tensordot(np.asarray(weights, dtype=np.float64), log_probs, axes=1)
    highest = scores.max(axis=-1, keepdims=True)
    return scores - highest - np.log(np.exp(scores - highest).sum(axis=-1, keepdims=True))


def bootstrap_by_family(correct, family, resamples, rng):
    """Return the accuracies of `resamples` imagined test sets, each of as many families drawn with replacement.

    correct: (N,) 0 or 1; family: (N,) names; rng: np.random.Generator -> (resamples,) float64
    """
    rows_of = [np.flatnonzero(family == name) for name in np.unique(family)]
    accuracies = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        accuracies[i] = correct[np.concatenate([rows_of[k] for k in drawn])].mean()
    return accuracies


def modality_dropout(present, p, generator):
    """Hide each modality of each row with chance `p`, but never the last one that a row has.

    present: (B, M) bool, what each row has; generator: torch.Generator -> (B, M) bool, what is left of it
    """
    luck = torch.rand(present.shape, generator=generator).masked_fill(~present, -1.0)
    luckiest = luck == luck.max(dim=1, keepdim=True).values
    return present & ((luck >= p) | luckiest)


def gated_fusion(codes, weight, bias):
    """Return a weighted sum of the modalities' codes, the weights decided by all the codes together.

    codes: (B, M, D); weight: (M * D, M * D) and bias: (M * D,) of the gate -> (B, D).
    For each of the D features the M weights are a softmax: they are positive and sum to one.
    """
    scores = codes.flatten(1) @ weight.T + bias  # (B, M * D)
    gates = scores.view(codes.shape).softmax(dim=1)
    return (gates * codes).sum(dim=1)


def low_rank_tensor_fusion(codes, factors, weights):
    """Return what a linear layer on the outer product of all codes would, without forming that product.

    codes: (B, M, D); factors: (M, R, D + 1, H); weights: (R,) -> (B, H).
    A one is appended to each code, so that the product keeps single modalities and pairs too.
    """
    ones = codes.new_ones(*codes.shape[:2], 1)
    parts = torch.einsum("bmd,mrdh->bmrh", torch.cat([codes, ones], dim=2), factors)
    return torch.einsum("brh,r->bh", parts.prod(dim=1), weights)


# Notebook 04


def nonsaturating_g_loss(real_logits, fake_logits):
    """Return the generator's loss -log D(G(z)), averaged over the batch; D is the sigmoid of the logit.

    real_logits, fake_logits: (B,) -> scalar. Source: Goodfellow et al. 2014 (arXiv:1406.2661), section 3.
    """
    # softplus(-x) is -log sigmoid(x), but safe for any x.
    return torch.nn.functional.softplus(-fake_logits).mean()


def relativistic_loss(real_logits, fake_logits):
    """Return the loss of a discriminator that must rank each real picture above its fake partner.

    real_logits, fake_logits: (B,) -> scalar. Source: Huang et al. 2024 (arXiv:2501.05441), equation 2.
    """
    return torch.nn.functional.softplus(fake_logits - real_logits).mean()


def gradient_penalty(logits, x):
    """Return the mean squared length of d logits / d x: R1 on real pictures, R2 on fakes, without the gamma / 2.

    logits: (B,), each from its own x (B, ...), which requires grad -> scalar that can itself be descended.
    Source: Mescheder et al. 2018 (arXiv:1801.04406), equation 9.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


@torch.no_grad()
def ema_update(averaged, model, decay):
    """Move every weight of `averaged` a share 1 - decay of the way to that of `model`, in place; copy the buffers."""
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(averaged.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def frechet_distance(real, fake):
    """Return |mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of features (N, D) and (M, D).

    The root's trace comes from the symmetric root(S_r) S_f root(S_r), which has the same eigenvalues: nothing complex.
    Source: Heusel et al. 2017 (arXiv:1706.08500), equation 6.
    """
    apart = np.square(real.mean(axis=0) - fake.mean(axis=0)).sum()
    s_r, s_f = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (real, fake))
    values, vectors = np.linalg.eigh(s_r)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ s_f @ root), 0)).sum()
    return apart + np.trace(s_r) + np.trace(s_f) - 2 * cross


# Notebook 05


def nearest_code(rows, codebook):
    """Return, for each row, the index of the closest code in Euclidean distance.

    rows: (N, D), codebook: (K, D) -> int64 (N,). Source: van den Oord et al. 2017 (arXiv:1711.00937), equation 1.
    """
    # |r - c|^2 = |r|^2 - 2 r.c + |c|^2, and |r|^2 is the same for every code.
    return (codebook.square().sum(1) - 2 * rows @ codebook.T).argmin(1)


def straight_through(z_e, z_q):
    """Return exactly the value of `z_q`, with the gradient passed on to `z_e` as if nothing had happened.

    z_e, z_q: the same shape -> that shape. Source: Bengio et al. 2013 (arXiv:1308.3432), section 4.
    """
    # What is added is exactly zero; the usual z_e + (z_q - z_e).detach() rounds.
    return z_q.detach() + (z_e - z_e.detach())


def commitment_loss(z_e, z_q, beta):
    """Return beta times the mean squared distance of `z_e` from its code, which moves `z_e` and not the code.

    z_e, z_q: the same shape -> scalar. Source: van den Oord et al. 2017, equation 3, third term.
    """
    return beta * (z_e - z_q.detach()).square().mean()


def ema_codebook(count, total, used, sums, decay):
    """Return (count, total), each moved a share 1 - decay of the way to what this batch saw; nothing in place.

    count, used: (K,), rows of each code on average and in this batch; total, sums: (K, D), their sums.
    Source: van den Oord et al. 2017, appendix A.1.
    """
    return decay * count + (1 - decay) * used, decay * total + (1 - decay) * sums


def perplexity(counts):
    """Return exp(entropy) of code counts (K,): how many codes, equally used, would be as hard to guess -> scalar."""
    p = counts / counts.sum().clamp_min(1)
    return torch.exp(-torch.xlogy(p, p).sum())


# Notebook 06


def info_nce(a, b, logit_scale, same=None):
    """Return the mean of two cross-entropies: each row of `a` must find its own row of `b`, and the other way round."""
    a, b = torch.nn.functional.normalize(a, dim=1), torch.nn.functional.normalize(b, dim=1)
    logits = logit_scale * a @ b.T
    if same is not None:
        own = torch.eye(len(a), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(same & ~own, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    there = torch.nn.functional.cross_entropy(logits, target)
    back = torch.nn.functional.cross_entropy(logits.T, target)
    return (there + back) / 2


def same_concept(concept):
    """Return (B, B) bool: whether i and j show one concept."""
    return concept[:, None] == concept[None, :]


def recall_at_k(similarity, target, k):
    """Return the share of queries whose target stands among the k most similar; ties are broken against us."""
    own = similarity[np.arange(len(similarity)), target]
    at_least = (similarity >= own[:, None]).sum(axis=1)
    return float((at_least <= k).mean())


def zero_shot(pictures, class_texts):
    """Return the class of each picture: the one whose text points most nearly the same way."""
    pictures = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
    class_texts = class_texts / np.linalg.norm(class_texts, axis=1, keepdims=True)
    return (pictures @ class_texts.T).argmax(axis=1)


def slerp(a, b, share):
    """Return the unit vector that lies `share` of the way from unit vector `a` to unit vector `b` along the circle."""
    angle = np.arccos(np.clip(a @ b, -1, 1))
    if angle < 1e-6:
        return a
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


# Notebook 07


def unigram_bits(train, test, num_codes):
    """Return the mean surprise, in bits a code, at codes `test` of how often each code occurs in `train`.

    train: (M, T), test: (N, T), int64 -> float. One is added to each count, so that no code is impossible.
    """
    counts = torch.bincount(train.flatten(), minlength=num_codes).double() + 1
    return float(-(counts / counts.sum()).log2()[test.flatten()].mean())


def later(new, places):
    """Return (new, places): minus infinity where one of the last `new` places would look ahead, else 0."""
    row, column = torch.arange(places - new, places)[:, None], torch.arange(places)
    return torch.zeros(new, places).masked_fill(column > row, float("-inf"))


def next_code_loss(logits, codes):
    """Return the mean surprise, in nats, at codes (B, T) of logits (B, T, K), over all places -> scalar."""
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten())


def guide(given, null, guidance_scale):
    """Return logits (B, K) that go from `null` towards `given` and, from 1 on, beyond; 0 and 1 are exact.

    Source: Ho and Salimans 2022 (arXiv:2207.12598), equation 6, with scale = 1 + w.
    """
    if guidance_scale == 1:  # in floating point null + (given - null) is not given
        return given
    return null + guidance_scale * (given - null)


def choose(logits, chance, temperature, top_k=None):
    """Return one code a row, int64 (B,), from logits (B, K) and a number from [0, 1) a row, (B,).

    temperature 0 takes the likeliest; top_k leaves only the k likeliest to be drawn.
    """
    if temperature == 0:
        return logits.argmax(dim=1)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[1]), dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    upto = (
        (logits.double() / temperature).softmax(dim=1).cumsum(dim=1)
    )  # chance falls into one of K pieces of a line
    return (upto <= chance[:, None] * upto[:, -1:]).sum(dim=1)


# Notebook 08


def label_budget(target, family, count, rng):
    """Draw `count` rows of every class, from as many different families as there are; no row twice.

    target, family: (N,) classes and names; rng: np.random.Generator -> int (count * classes,), class after class.
    """
    chosen = []
    for label in np.unique(target):
        rows = rng.permutation(np.flatnonzero(target == label))
        # how often the family of each row came before it: rows of a family not yet met come first
        met, turn = {}, []
        for name in family[rows]:
            turn.append(met.get(name, 0))
            met[name] = turn[-1] + 1
        chosen.append(rows[np.argsort(turn, kind="stable")][:count])
    return np.concatenate(chosen)


def mixing_weights(n_real, n_fake, share):
    """Return the chance of each picture to be drawn, real ones first, so that `share` of a batch is generated.

    -> float (n_real + n_fake,), summing to 1, whatever the two numbers are.
    """
    return np.concatenate([np.full(n_real, (1 - share) / n_real), np.full(n_fake, share / n_fake)])


def generated_accuracy(fit, fake, fake_labels, real, real_labels):
    """Train on generated pictures alone, test on real ones: the classification accuracy score.

    fit(pictures, labels) -> a function from pictures to labels. Returns the share of real pictures named right.
    Source: Ravuri & Vinyals 2019 (arXiv:1905.10887).
    """
    predict = fit(fake, fake_labels)
    return float((predict(real) == real_labels).mean())


def paired_gains(right_a, right_b, family, drawn):
    """Return by how much A beats B in each resample of whole families.

    right_a, right_b: (N,) bool on the same rows; family: (N,) codes from 0; drawn: (R, F) ints, how often each family
    was drawn in each resample -> (R,) differences of the shares right among the rows drawn.
    """
    weight = drawn[:, family]  # (R, N): how often each row is in the resample
    difference = right_a.astype(float) - right_b.astype(float)
    return (weight * difference).sum(axis=1) / weight.sum(axis=1)


def leaking_rows(items, rows):
    """Return those of `rows` that no model may learn from: not of split train, held out, or in OpenMoji.

    items: DataFrame with split, held_out and style; rows: int (n,), places in it -> int (m,), in the order given.
    """
    used = items.iloc[rows]
    bad = (used["split"] != "train") | used["held_out"].astype(bool) | (used["style"] == "openmoji")
    return np.asarray(rows)[bad.to_numpy()]


def mean_stand_in(train, features, present):
    """Fill the rows whose picture is missing with the mean of the training rows; leave what is given unchanged.

    train: (M, D); features: (N, D), NaN where missing; present: (N,) bool -> (N, D).
    """
    return np.where(present[:, None], features, train.mean(axis=0))
