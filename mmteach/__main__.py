"""The commands of the course: `python -m mmteach lab · doctor · run · study · pretrain · bench`."""

from __future__ import annotations

import argparse
import importlib
import sys

from mmteach import __version__

EPILOG = """\
examples:
  python -m mmteach lab                       open JupyterLab on notebook 00
  python -m mmteach doctor                    is this machine ready?
  python -m mmteach run --profile smoke       does every notebook run? (a minute or two)
  python -m mmteach run 03 --profile cpu      notebook 03 as it was published, into runs/cpu
  python -m mmteach study --help              the studies over several seeds
  python -m mmteach pretrain features         train shipped weights again, with their card
  python -m mmteach pretrain prior --check    what is shipped: files, card, data, and how well it draws
  python -m mmteach bench --quick             our training beside other packages'

MMTEACH_PROFILE (smoke, cpu or gpu) chooses sizes and steps; unset, the machine decides.
MMTEACH_DATA names the data folder when mmteach is used outside its checkout.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from mmteach import course, lab

    top = argparse.ArgumentParser(
        prog="python -m mmteach",
        description="Commands of the course on multimodal learning and image generation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mmteach {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab.add_arguments(
        commands.add_parser("lab", help="open JupyterLab on notebook 00", description=lab.__doc__)
    )
    commands.add_parser("doctor", help="check this machine: each line OK, or what to do")
    run = commands.add_parser(
        "run", help="run notebooks, with times, memory and claims", description=course.__doc__
    )
    course.add_arguments(run)
    commands.add_parser("study", help="run a study over several seeds (study --help)", add_help=False)
    commands.add_parser("pretrain", help="train the shipped weights again (pretrain --help)", add_help=False)
    commands.add_parser(
        "bench", help="train beside other packages and compare (bench --help)", add_help=False
    )
    return top


STUDIES = {
    "03_fusion": "mmteach.study", "04_gan": "mmteach.study_gan", "05_vqvae": "mmteach.study_vqvae",
    "06_embed": "mmteach.study_embed", "07_text_to_image": "mmteach.study_prior",
    "08_generated": "mmteach.study_generated", "08_probes": "mmteach.study_probes", "08_repair": "mmteach.study_repair",
}  # fmt: skip


def study(argv: list[str]) -> int:
    """Hand the arguments to the module that holds the study named first; without a name, say which there are."""
    if not argv or argv[0] not in STUDIES:
        print(f"usage: python -m mmteach study {{{','.join(STUDIES)}}} [--help]")
        raise SystemExit(0 if argv in ([], ["-h"], ["--help"]) else 2)
    return importlib.import_module(STUDIES[argv[0]]).main(argv) or 0


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["study"]:
        return study(argv[1:])
    if argv[:1] == ["pretrain"]:
        from mmteach import pretrain

        return pretrain.main(argv[1:])
    if argv[:1] == ["bench"]:
        from mmteach import bench

        return bench.main(argv[1:])
    options = parser().parse_args(argv)
    if options.command == "doctor":
        from mmteach import doctor

        return 0 if doctor.show() else 1
    if options.command == "lab":
        from mmteach import lab

        return lab.main(options)
    from mmteach import course

    return course.main(options)


if __name__ == "__main__":
    sys.exit(main())
