"""What is shipped, trained again from scratch: `python -m mmteach pretrain features` writes weights and their card.

Each recipe lives with its model and returns a `Trained`; here it becomes <name>.safetensors, <name>.md, for a drawing
model <name>.webp, and their lines in SHA256SUMS. After Mitchell et al. 2019, "Model Cards" (arXiv:1810.03993).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmteach.data import DataError, data_checksum
from mmteach.weights import Trained as Trained
from mmteach.weights import load_weights, pretrained_folder, save_weights, verified, write_sums

RECIPES = {
    "features": "mmteach.feature_net", "gan": "mmteach.gan_recipe", "vqvae": "mmteach.vqvae_recipe",
    "judge": "mmteach.frozen_judge", "embed": "mmteach.embed_recipe", "prior": "mmteach.prior_recipe",
}  # fmt: skip
CHECKPOINTS = Path("runs/pretrain")
LICENCE = (
    "CC BY 4.0. The weights were learned from drawings by Google (Noto Emoji, Apache-2.0), Twitter and contributors "
    "(Twemoji, CC BY 4.0), the makers of Emoji One 2 / EmojiTwo (CC BY 4.0), Mozilla (FxEmojis, CC BY 4.0) and "
    "Microsoft (Fluent Emoji, MIT), rendered and resized; whoever passes them on names these too. No drawing under a "
    "share-alike licence was used. Details: data/emoji/LICENSES.md."
)
Recipe = Callable[..., Trained]  # (*, steps: int | None, seed: int, checkpoint: Path | None) -> Trained


def recipe(name: str) -> Recipe:
    """Return the function that trains `name`. Raises ValueError when there is none of that name."""
    if name not in RECIPES:
        raise ValueError(f"nothing called {name!r} is shipped; there are {', '.join(RECIPES)}")
    return importlib.import_module(RECIPES[name]).pretrain


def run(
    name: str, out: Path, *, steps: int | None = None, seed: int = 0, train: Recipe | None = None
) -> Path:
    """Train `name` (by `train`, else its recipe) and write weights, card, sheet and checksums; return where.

    A run that was killed goes on from its checkpoint under runs/pretrain. The profile changes nothing: what is shipped
    has one size. `steps` is for tests; it takes the place of the recipe's own number.
    """
    checkpoint = CHECKPOINTS / f"{name}-{steps or 'full'}-{seed}.safetensors"
    resumed, began, busy = checkpoint.exists(), time.perf_counter(), time.process_time()
    trained = (train or recipe(name))(steps=steps, seed=seed, checkpoint=checkpoint)
    spent = {"seconds": round(time.perf_counter() - began), "busy": round(time.process_time() - busy)}
    made = {**_made(), **spent, "resumed": resumed, "eight_bits": trained.eight_bits}
    config = {**trained.config, "facts": trained.facts, "made": made}
    path = out / f"{name}.safetensors"
    save_weights(path, trained.model, config, eight_bits=trained.eight_bits)
    written = [path.name, f"{name}.md"]
    if trained.sheet is not None:
        Image.fromarray(trained.sheet).save(out / f"{name}.webp", lossless=True)
        written.append(f"{name}.webp")
    (out / f"{name}.md").write_text(card(name, config, trained.sheet is not None), "utf-8")
    write_sums(out, written)
    for part in checkpoint.parent.glob(f"{checkpoint.stem}-*{checkpoint.suffix}"):
        part.unlink()
    checkpoint.unlink(missing_ok=True)
    return path


def _made() -> dict[str, Any]:
    from mmteach.doctor import machine  # it measures with a package that only the commands need

    where = machine()
    return {
        "data_sha256": data_checksum(),
        "machine": where["gpu"] or f"{where['cpu']}, {torch.get_num_threads()} of {where['cores']} cores",
        "torch": where["torch"],
        "python": where["python"],
    }


def card(name: str, config: Mapping[str, Any], sheet: bool) -> str:
    """Return the model card in Markdown; every figure in it comes from `config`, which the weights carry too."""
    facts, made = config["facts"], config["made"]
    picture = [f"![100 uncurated pictures]({name}.webp)", ""] if sheet else []
    last = ", the last part of a resumed run" if made["resumed"] else ""
    busy = "of processor time" if made["busy"] > made["seconds"] else "of them the processor's"
    kept = "matrices in eight bits, the rest" if made.get("eight_bits") else "floats"
    lines = [
        f"# {facts['title']}", "", facts["about"], "", *picture,
        "## Recipe", "", *(f"- {key}: {value}" for key, value in facts["recipe"].items()),
        f"- seed: {facts['seed']}", "", "## Figures", "", *_section(facts, "metrics"),
        *_section(facts, "noticed"),
        "## Made", "",
        f"- command: `python -m mmteach pretrain {name}`",
        f"- data: SHA-256 of data/emoji/SHA256SUMS {made['data_sha256']}",
        f"- machine: {made['machine']}; torch {made['torch']}, Python {made['python']}",
        f"- time: {made['seconds'] / 60:.1f} minutes, {made['busy'] / 60:.1f} {busy}{last}",
        f"- file: {name}.safetensors, {kept} in half precision; checksum in SHA256SUMS", "",
        "## Licence", "", LICENCE, "",
    ]  # fmt: skip
    return "\n".join(lines)


def _section(facts: Mapping[str, Any], name: str) -> list[str]:
    """Return the figures that `facts` holds under a name, under a line that says what they are; nothing without."""
    if name not in facts:
        return []
    said = facts.get(f"{name} are") or facts.get(f"{name} is")
    return [*([f"{said[0].upper()}{said[1:]}:", ""] if said else []), *_figures(facts[name]), ""]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """Return a table when the figures are grouped by set of pictures, else a list."""
    if not all(isinstance(each, Mapping) for each in metrics.values()):
        return [f"- {key}: {_said(value)}" for key, value in metrics.items()]
    columns = list(dict.fromkeys(key for each in metrics.values() for key in each))
    rows = [[part, *(_said(each.get(key, "")) for key in columns)] for part, each in metrics.items()]
    table = [["", *columns], ["---"] * (len(columns) + 1), *rows]
    return ["| " + " | ".join(row) + " |" for row in table]


def _said(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def check(name: str, folder: Path) -> list[str]:
    """Return what is wrong with the weights `name` in `folder`: files, card, or data that have changed since."""
    try:
        config, _ = load_weights(name, folder)
        text = verified(folder / f"{name}.md").decode("utf-8")
        if sheet := (folder / f"{name}.webp").exists():
            verified(folder / f"{name}.webp")
    except DataError as error:
        return [str(error)]
    wrong = []
    if text != card(name, config, sheet):
        wrong.append(f"{folder / name}.md does not say what the weights carry")
    if config["made"]["data_sha256"] != data_checksum():
        wrong.append(f"{name} was trained on another version of the data")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Train one of the shipped models, or check it."""
    parser = argparse.ArgumentParser(prog="python -m mmteach pretrain", description=__doc__)
    parser.add_argument("name", choices=RECIPES, help="which model")
    parser.add_argument("--out", type=Path, help="folder to write to (default: data/pretrained)")
    parser.add_argument("--check", action="store_true", help="check files, card and data instead of training")
    parser.add_argument("--steps", type=int, help="fewer steps, to see that it runs; needs --out")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    out = chosen.out or pretrained_folder()
    if chosen.check:
        wrong = check(chosen.name, out)
        print("\n".join(wrong) or f"{chosen.name}: files, card and data agree")
        show = getattr(importlib.import_module(RECIPES[chosen.name]), "show", None)
        if show and not wrong and chosen.out is None:  # what is shipped is measured again
            print(show())
        return 1 if wrong else 0
    if chosen.steps is not None and (chosen.steps < 1 or chosen.out is None):
        parser.error(
            "--steps must be at least 1, and needs --out, lest weaker weights replace the shipped ones"
        )
    path = run(chosen.name, out, steps=chosen.steps, seed=chosen.seed)
    print(f"wrote {path} ({os.path.getsize(path) / 2**20:.2f} MiB) and its card")
    return 0


if __name__ == "__main__":
    sys.exit(main())
