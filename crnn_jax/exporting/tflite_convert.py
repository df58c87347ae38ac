"""SavedModel -> TFLite; started as a script, with main's arguments as JSON on stdin."""

import json
import sys


def main(folder: str, path: str, quantize: str) -> None:
    """Converts with the operations that every interpreter has."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converted = converter.convert()
    with open(path, "wb") as file:
        file.write(converted)


if __name__ == "__main__":
    main(*json.load(sys.stdin))
