"""Plausible wrong answers to the exercises of notebook 06: each must be told apart from the others."""

import numpy as np
import torch
import torch.nn.functional as F


def _both(logits):
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _cosines(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def _masked(logits, same, keep_diagonal=True, value=float("-inf")):
    if same is None:
        return logits
    drop = same & ~torch.eye(len(logits), dtype=torch.bool) if keep_diagonal else same
    return logits.masked_fill(drop, value)


def nce_not_normalised(a, b, logit_scale, same=None):
    return _both(_masked(logit_scale * a @ b.T, same))


def nce_one_side_normalised(a, b, logit_scale, same=None):
    return _both(_masked(logit_scale * F.normalize(a, dim=1) @ b.T, same))


def nce_without_scale(a, b, logit_scale, same=None):
    return _both(_masked(_cosines(a, b), same))


def nce_scale_divides(a, b, logit_scale, same=None):
    return _both(_masked(_cosines(a, b) / logit_scale, same))


def nce_scale_exponentiated(a, b, logit_scale, same=None):
    return _both(_masked(_cosines(a, b) * float(np.exp(logit_scale)), same))


def nce_one_way(a, b, logit_scale, same=None):
    return F.cross_entropy(_masked(logit_scale * _cosines(a, b), same), torch.arange(len(a)))


def nce_the_other_way(a, b, logit_scale, same=None):
    return F.cross_entropy(_masked(logit_scale * _cosines(a, b), same).T, torch.arange(len(a)))


def nce_summed_ways(a, b, logit_scale, same=None):
    return 2 * _both(_masked(logit_scale * _cosines(a, b), same))


def nce_flipped(a, b, logit_scale, same=None):
    return -_both(_masked(logit_scale * _cosines(a, b), same))


def nce_summed_rows(a, b, logit_scale, same=None):
    return len(a) * _both(_masked(logit_scale * _cosines(a, b), same))


def nce_ignores_the_mask(a, b, logit_scale, same=None):
    return _both(logit_scale * _cosines(a, b))


def nce_masks_the_diagonal(a, b, logit_scale, same=None):
    return _both(_masked(logit_scale * _cosines(a, b), same, keep_diagonal=False))


def nce_masks_with_zero(a, b, logit_scale, same=None):
    return _both(_masked(logit_scale * _cosines(a, b), same, value=0.0))


def nce_masks_the_others(a, b, logit_scale, same=None):
    other = None if same is None else ~same
    return _both(_masked(logit_scale * _cosines(a, b), other))


def same_differs(concept):
    return concept[:, None] != concept[None, :]


def same_diagonal_only(concept):
    return torch.eye(len(concept), dtype=torch.bool)


def same_without_itself(concept):
    return (concept[:, None] == concept[None, :]) & ~torch.eye(len(concept), dtype=torch.bool)


def same_upper_half(concept):
    return (concept[:, None] == concept[None, :]).triu()


def same_as_numbers(concept):
    return (concept[:, None] == concept[None, :]).float()


def same_elementwise(concept):
    return concept == concept


def recall_first_only(similarity, target, k):
    return float((similarity.argmax(1) == target).mean())


def recall_least_similar(similarity, target, k):
    return float(np.mean([t in row.argsort()[:k] for row, t in zip(similarity, target, strict=True)]))


def recall_one_too_many(similarity, target, k):
    return float(np.mean([t in (-row).argsort()[: k + 1] for row, t in zip(similarity, target, strict=True)]))


def recall_one_too_few(similarity, target, k):
    return float(np.mean([t in (-row).argsort()[: k - 1] for row, t in zip(similarity, target, strict=True)]))


def recall_counted(similarity, target, k):
    return sum(int(t in (-row).argsort()[:k]) for row, t in zip(similarity, target, strict=True))


def recall_ties_for_us(similarity, target, k):
    own = similarity[np.arange(len(similarity)), target]
    return float(((similarity > own[:, None]).sum(1) < k).mean())


def recall_divided(similarity, target, k):
    return float(
        np.mean([(row.argsort()[-k:] == t).sum() / k for row, t in zip(similarity, target, strict=True)])
    )


def zero_shot_long_texts_win(pictures, class_texts):
    return (pictures @ class_texts.T).argmax(1)


def zero_shot_worst(pictures, class_texts):
    texts = class_texts / np.linalg.norm(class_texts, axis=1, keepdims=True)
    return (pictures @ texts.T).argmin(1)


def zero_shot_euclid(pictures, class_texts):
    return ((pictures[:, None] - class_texts) ** 2).sum(2).argmin(1)


def zero_shot_similarities(pictures, class_texts):
    return pictures @ class_texts.T


def zero_shot_the_best_value(pictures, class_texts):
    return (pictures @ class_texts.T).max(1)


def zero_shot_over_pictures(pictures, class_texts):
    return (pictures @ class_texts.T).argmax(0)


def slerp_straight(a, b, share):
    return (1 - share) * a + share * b


def slerp_stretched(a, b, share):
    line = (1 - share) * a + share * b
    return line / np.linalg.norm(line)


def slerp_wrong_way(a, b, share):
    angle = np.arccos(np.clip(a @ b, -1, 1))
    return (np.sin(share * angle) * a + np.sin((1 - share) * angle) * b) / np.sin(angle)


def slerp_undivided(a, b, share):
    angle = np.arccos(np.clip(a @ b, -1, 1))
    return np.sin((1 - share) * angle) * a + np.sin(share * angle) * b


def slerp_of_nothing(a, b, share):
    angle = np.arccos(np.clip(a @ b, -1, 1)) or np.nan
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


WRONG = {
    "info_nce": [
        nce_not_normalised,
        nce_one_side_normalised,
        nce_without_scale,
        nce_scale_divides,
        nce_scale_exponentiated,
        nce_one_way,
        nce_the_other_way,
        nce_summed_ways,
        nce_flipped,
        nce_summed_rows,
        nce_ignores_the_mask,
        nce_masks_the_diagonal,
        nce_masks_with_zero,
        nce_masks_the_others,
    ],
    "same_concept": [
        same_differs,
        same_diagonal_only,
        same_without_itself,
        same_upper_half,
        same_as_numbers,
        same_elementwise,
    ],
    "recall_at_k": [
        recall_first_only,
        recall_least_similar,
        recall_one_too_many,
        recall_one_too_few,
        recall_counted,
        recall_ties_for_us,
        recall_divided,
    ],
    "zero_shot": [
        zero_shot_long_texts_win,
        zero_shot_worst,
        zero_shot_euclid,
        zero_shot_similarities,
        zero_shot_the_best_value,
        zero_shot_over_pictures,
    ],
    "slerp": [slerp_straight, slerp_stretched, slerp_wrong_way, slerp_undivided, slerp_of_nothing],
}
