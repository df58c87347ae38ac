"""Gives a model a larger variant's residual pairs, which change nothing until they are trained.

python experiments/pretrained/grow.py MODEL crnn_residual -o grown.safetensors
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dataclasses

import jax

from crnn_jax.core.model_file import flatten, save_model, unflatten
from crnn_jax.models.config import ModelConfig, variant
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.training.state import init_variables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("variant")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--min_width", type=int, help="of the preprocessing, in pixels")
    args = parser.parse_args()
    variables, metadata = open_model(args.model)
    config = ModelConfig.from_metadata(metadata)
    grown = dataclasses.replace(config, **variant(args.variant))
    # The new pairs end in kernels of zeros.
    fresh = jax.device_get(init_variables(CRNN(grown), 0))
    variables = unflatten(flatten(fresh) | flatten(variables))
    metadata = metadata | {"model": grown.to_dict()}
    if args.min_width:
        metadata["preprocessing"] = metadata["preprocessing"] | {"min_width": args.min_width}
    save_model(args.output, variables, metadata)


if __name__ == "__main__":
    main()
