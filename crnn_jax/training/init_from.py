"""Starts a network from another model's variables, also one with another character table.

Rows of the last layer belong to characters, so they are carried by symbol, not by place.
"""

from typing import Any

import jax
import numpy as np

from crnn_jax.spec.charset import Charset
from crnn_jax.spec.errors import UserError


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

    Raises:
      UserError: another network (names what is missing or of another shape).
    """
    fresh, old = _flatten(variables), _flatten(source)
    head = {("params", "logits", "kernel"), ("params", "logits", "bias")}
    for path in sorted(set(fresh) | set(old)):
        name = "/".join(path)
        if path not in old:
            raise UserError(f"init_from: the other model has no {name}; another network?")
        if path not in fresh:
            raise UserError(f"init_from: {name} has no place in this network; another network?")
        mine, theirs = fresh[path].shape, old[path].shape
        if path in head:
            mine, theirs = mine[:-1], theirs[:-1]
        if mine != theirs:
            raise UserError(f"init_from: {name} is {theirs} there and {mine} here")
    places = {symbol: i for i, symbol in enumerate(source_charset.symbols)}
    pairs = [(i, places[s]) for i, s in enumerate(charset.symbols) if s in places]
    # A model that ignores case has seen capitals too, under the name of their small letters.
    capitals = [
        (i, places[s.lower()])
        for i, s in enumerate(charset.symbols)
        if source_charset.ignore_case and s not in places and s.lower() in places
    ]
    result = {}
    for path, value in fresh.items():
        if path in head:
            value = np.array(value)
            to, come = (np.array(side, np.int64) for side in zip(*pairs, *capitals, strict=True))
            value[..., to] = np.asarray(old[path])[..., come]
        else:
            value = np.asarray(old[path])
        result[path] = value
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
    return _unflatten(result), lines


def _flatten(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def _unflatten(flat):
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree
