"""What a program needs to read with an exported file, in one form: JSON that every format holds."""

import json
from collections.abc import Sequence
from typing import Any

from crnn_jax.reading.loaded_model import LoadedModel

METADATA = "crnn_jax.json"  # its name as a file, a property or an attribute, as formats have them


def reader_metadata(
    model: LoadedModel, post: str, classes: Sequence[int] | None = None, **preprocessing: Any
) -> str:
    """The JSON of an export.

    Args:
        model: what is exported.
        post: what is done with the network's output inside the file, as in `ExportPlan`.
        classes: the model's class behind each score of the file; None: as in the model.
        preprocessing: what differs from the model's own.

    Returns:
        An object with `symbols` (what each class writes, '' for the blank), `blank_id`,
        `unknown_id` (the class that no decoder may emit, -1 for none), `temperature` (logits are
        divided by it for confidences), `preprocessing` (a fixed width is `min_width` and
        `max_width` as well) and `post`.
    """
    order = list(range(model.charset.num_classes) if classes is None else classes)
    rule = model.preprocessing.to_metadata() | preprocessing
    if rule["width"]:  # a reader need not know that there are two kinds
        rule |= {"min_width": rule["width"], "max_width": rule["width"]}
    values = {
        "symbols": [model.symbols[i] for i in order],
        "blank_id": order.index(model.charset.blank_id),
        "unknown_id": order.index(model.unknown_id) if model.unknown_id in order else -1,
        "temperature": model.temperature,
        "preprocessing": rule,
        "post": post,
    }
    return json.dumps(values, ensure_ascii=False)
