"""Exercise checks that answer at once, and claims that a full run must keep.

Used by every notebook: `fn = check.<name>(fn)` judges a reader's function and returns the one to go on with.
How a verdict comes about is in `judging`; the checks themselves are in `judge_data`, `judge_features`, `judge_fusion`,
`judge_gan`, `judge_vqvae`, `judge_embed`, `judge_prior`.
"""

from mmteach.judge_data import (
    average_picture,
    contact_sheet,
    deal_folds,
    duplicates,
    grey,
    missing_rate,
    nearest_neighbour,
)
from mmteach.judge_embed import info_nce, recall_at_k, same_concept, slerp, zero_shot
from mmteach.judge_features import colour_histogram, mel_filterbank, patch_codes, tf_idf
from mmteach.judge_fusion import (
    bootstrap_by_family,
    gated_fusion,
    late_fusion,
    low_rank_tensor_fusion,
    modality_dropout,
)
from mmteach.judge_gan import (
    ema_update,
    frechet_distance,
    gradient_penalty,
    nonsaturating_g_loss,
    relativistic_loss,
)
from mmteach.judge_prior import choose, guide, later, next_code_loss, unigram_bits
from mmteach.judge_transfer import (
    generated_accuracy,
    label_budget,
    leaking_rows,
    mean_stand_in,
    mixing_weights,
    paired_gains,
)
from mmteach.judge_vqvae import commitment_loss, ema_codebook, nearest_code, perplexity, straight_through
from mmteach.judging import (
    JUDGES,
    ClaimFailed,
    Mistake,
    claim,
    close,
    exercise,
    gap,
    judged,
    need,
    need_close,
    need_shape,
    solution,
)

__all__ = [
    "JUDGES",
    "ClaimFailed",
    "Mistake",
    "average_picture",
    "bootstrap_by_family",
    "choose",
    "claim",
    "close",
    "colour_histogram",
    "commitment_loss",
    "contact_sheet",
    "deal_folds",
    "duplicates",
    "ema_codebook",
    "ema_update",
    "exercise",
    "frechet_distance",
    "gap",
    "gated_fusion",
    "generated_accuracy",
    "gradient_penalty",
    "grey",
    "guide",
    "info_nce",
    "judged",
    "label_budget",
    "late_fusion",
    "later",
    "leaking_rows",
    "low_rank_tensor_fusion",
    "mean_stand_in",
    "mel_filterbank",
    "missing_rate",
    "mixing_weights",
    "modality_dropout",
    "nearest_code",
    "nearest_neighbour",
    "need",
    "need_close",
    "need_shape",
    "next_code_loss",
    "nonsaturating_g_loss",
    "paired_gains",
    "patch_codes",
    "perplexity",
    "recall_at_k",
    "relativistic_loss",
    "same_concept",
    "slerp",
    "solution",
    "straight_through",
    "tf_idf",
    "unigram_bits",
    "zero_shot",
]
