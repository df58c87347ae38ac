"""Reads images of one word each through TF Serving's REST interface; nothing to install.

python -m crnn_jax.export -o word
docker run -p 8501:8501 -v "$PWD/word:/models/word" -e MODEL_NAME=word tensorflow/serving
python tf_serving_client.py http://localhost:8501/v1/models/word image.png...
"""

import base64
import json
import pathlib
import sys
import urllib.error
import urllib.request
from typing import Any


def predict(url: str, names: list[str]) -> list[dict[str, Any]]:
    """What the server answers for each file: text, confidence, ids, logits, frames."""
    files = [base64.b64encode(pathlib.Path(name).read_bytes()).decode() for name in names]
    instances = [{"image_bytes": {"b64": file}} for file in files]
    body = json.dumps({"signature_name": "serving_bytes", "instances": instances}).encode()
    try:
        with urllib.request.urlopen(f"{url}:predict", body) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {json.load(error)['error']}")
    except urllib.error.URLError as error:  # no server is there
        sys.exit(f"{url}: {error.reason}")


if __name__ == "__main__":
    names = sys.argv[2:]
    for name, one in zip(names, predict(sys.argv[1], names), strict=True):
        print(f"{name}: {one['text']}, probability {one['confidence']:.3f}")
