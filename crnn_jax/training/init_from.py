"""First variables of a run, fresh or another model's, also one with another character table.

Columns of the last layer belong to characters, so they are carried by symbol, not by place.
"""

from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.models.crnn import CRNN
from crnn_jax.training.experiment import Experiment
from crnn_jax.training.state import Variables, init_variables


def initial_variables(experiment: Experiment, seed: int) -> tuple[Variables, list[str]]:
    """The first variables (a pure function of seed and `init_from`), and lines for the log."""
    # Initialising outside of any mapped axis: there is no axis to sum over yet.
    variables = init_variables(CRNN(experiment.model), seed)
    origin = experiment.origin
    if origin is None or origin.variables is None:
        return variables, []
    variables, lines = carry(variables, experiment.charset, origin.variables, origin.charset)
    lines.append("init_from: network, preprocessing and batch norm's epsilon are that model's")
    here, there = experiment.preprocessing.to_metadata(), origin.preprocessing.to_metadata()
    lines += [
        f"init_from: but config.preprocessing.{key}={here[key]}, that model's {there[key]}"
        for key in ("width", "min_width", "max_width")[: 1 if here["width"] else 3]
        if here[key] != there[key]
    ]
    return variables, lines


def carry(
    variables: dict[str, Any],
    charset: Charset,
    source: dict[str, Any],
    source_charset: Charset,
) -> tuple[dict[str, Any], list[str]]:
    """Fills fresh variables with those of another model.

    Args:
      variables: fresh {'params', 'batch_stats'} of the network to train; its `logits` layer has
        one column a class of `charset`.
      charset: of the network to train.
      source: variables of the other model, the same network but for the number of classes.
      source_charset: its character table.

    Returns:
      The variables with everything carried that both have, and lines for the log.
    """
    places = {symbol: i for i, symbol in enumerate(source_charset.symbols)}
    pairs = [(i, places[s]) for i, s in enumerate(charset.symbols) if s in places]
    # A model that ignores case has seen capitals too, under the name of their small letters.
    capitals = [
        (i, places[s.lower()])
        for i, s in enumerate(charset.symbols)
        if source_charset.ignore_case and s not in places and s.lower() in places
    ]
    to, come = (np.array(side, np.int64) for side in zip(*pairs, *capitals, strict=True))
    logits = {}
    for name, value in variables["params"]["logits"].items():
        logits[name] = np.array(value)
        logits[name][..., to] = source["params"]["logits"][name][..., come]
    result = {**source, "params": {**source["params"], "logits": logits}}
    folded = {charset.symbols[i] for i, _ in capitals}
    new = [s for s in charset.symbols if s not in places and s not in folded]
    gone = [s for s in source_charset.symbols if s not in charset.symbols]
    lines = [f"init_from: {len(pairs)} of {charset.num_classes} classes carried"]
    if folded:
        lines.append(f"init_from: {len(folded)} capitals start as their small letters")
    if new:
        lines.append(f"init_from: new characters: {' '.join(map(repr, new))}")
    if gone:
        lines.append(f"init_from: left behind: {' '.join(map(repr, gone))}")
    return result, lines
