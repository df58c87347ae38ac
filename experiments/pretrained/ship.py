"""Makes the model file that ships of a run's best weights: parameters in half precision.

    python experiments/pretrained/ship.py WORKDIR crnn_jax/weights/en_36.safetensors \
        [--average MODEL*SHARE ...] [--no-views]

With `--average` other models of the same net, from which the run went on, are mixed in by their
shares; the rest is the run's. The file states how it was made (data, seed, steps, pictures, hours
and hardware of the run) and that narrow images are read in several views.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax

from crnn_jax.core.model_file import save_model
from crnn_jax.reading.loaded_model import open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--average", nargs="+", default=[], metavar="MODEL*SHARE")
    about = "state that narrow images are read in several views (experiments/views)"
    parser.add_argument("--views", action=argparse.BooleanOptionalAction, default=True, help=about)
    args = parser.parse_args()
    variables, metadata = open_model(args.workdir)
    others = [(name, float(share)) for name, _, share in (m.rpartition("*") for m in args.average)]
    shares = [1.0 - sum(share for _, share in others), *(share for _, share in others)]
    variables = jax.tree.map(
        lambda *arrays: sum(share * a for share, a in zip(shares, arrays, strict=True)),
        variables,
        *(open_model(name)[0] for name, _ in others),
    )
    summary = json.loads((args.workdir / "summary.json").read_text())
    told = ("steps", "images", "hours", "hardware", "versions")
    training = metadata["training"] | {key: summary[key] for key in told}
    # Where the data lay on the machine that trained is nobody's business.
    training["data"] = Path(training["data"]).name
    if others:
        training["average"] = {Path(name).stem: share for name, share in others}
    metadata = metadata | {"training": training, "views": args.views}
    save_model(args.output, variables, metadata, float16=True)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, {training}")


if __name__ == "__main__":
    main()
