"""Makes the model file that ships of a run's best weights: parameters in half precision.

    python experiments/pretrained/ship.py WORKDIR crnn_jax/weights/en_36.safetensors \
        [--average MODEL*SHARE ...] [--last SHARE] [--no-views]

With `--average` other models of the same network, from which the run went on, are mixed in by their
shares, with `--last` the run's last weights; the rest is its best ones. The file states how it was
made (data, seed, steps, images, hours and hardware of the run) and that narrow images are read in
several views.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax

from crnn_jax.core.model_file import save_model
from crnn_jax.reading.checkpoint import read_state, steps
from crnn_jax.reading.loaded_model import open_model


def last_variables(workdir: Path) -> dict:
    """The averaged weights of a run's last checkpoint."""
    latest = workdir.absolute() / "checkpoints" / "latest"
    return read_state(latest / str(steps(latest)[-1]) / "state")["ema"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    about = "share of the run's last weights, beside its best ones"
    parser.add_argument("--last", type=float, default=0.0, metavar="SHARE", help=about)
    parser.add_argument("output", type=Path)
    parser.add_argument("--average", nargs="+", default=[], metavar="MODEL*SHARE")
    about = "state that narrow images are read in several views (experiments/views)"
    parser.add_argument("--views", action=argparse.BooleanOptionalAction, default=True, help=about)
    args = parser.parse_args()
    variables, metadata = open_model(args.workdir)
    others = [(name, float(share)) for name, _, share in (m.rpartition("*") for m in args.average)]
    models, shares = [open_model(name)[0] for name, _ in others], [share for _, share in others]
    if args.last:
        models.append(last_variables(args.workdir))
        shares.append(args.last)
    variables = jax.tree.map(
        lambda best, *more: (
            (1 - sum(shares)) * best + sum(s * a for s, a in zip(shares, more, strict=True))
        ),
        variables,
        *models,
    )
    summary = json.loads((args.workdir / "summary.json").read_text())
    told = ("steps", "images", "hours", "hardware", "versions")
    training = metadata["training"] | {key: summary[key] for key in told}
    # Where the data lay on the machine that trained is nobody's business.
    training["data"] = Path(training["data"]).name
    if others or args.last:
        training["average"] = {Path(name).stem: share for name, share in others}
        training["average"] |= {"last": args.last}
    metadata = metadata | {"training": training, "views": args.views}
    save_model(args.output, variables, metadata, float16=True)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, {training}")


if __name__ == "__main__":
    main()
