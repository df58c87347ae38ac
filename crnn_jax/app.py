"""Serves a web page for trying a model: drop, paste or photograph a word.

    python -m crnn_jax.app [-m MODEL] [--host 127.0.0.1] [--port 7860]

Needs gradio (pip install '.[app]') but no internet. Only this machine can open the page, unless
--host says otherwise.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence

from crnn_jax import cli
from crnn_jax.core.errors import UserError

LARGEST = "20mb"  # of a file that is dropped on the page
# Images to offer, in a source tree.
EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "example", "images")


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the page until it is stopped; returns the exit code."""
    parser = cli.Parser("app", __doc__)
    parser.add_model()
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=cli.number(1, 65535), default=7860, help="its port (7860)")
    args = parser.parse_args(argv)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    cli.set_up_jax()
    from crnn_jax.reading.page import page
    from crnn_jax.reading.pictures import list_images
    from crnn_jax.reading.recognizer import Recognizer

    examples = list_images(EXAMPLES) if os.path.isdir(EXAMPLES) else []
    recognizer = Recognizer.load(args.model)
    # An exception in the middle of launch() would leave the server's thread, and so the process.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="crnn_jax_page_") as sent:
        os.environ["GRADIO_TEMP_DIR"] = sent
        blocks = page(recognizer, examples)
        print(f"http://{args.host}:{args.port}", file=sys.stderr, flush=True)
        try:
            blocks.launch(
                server_name=args.host,
                server_port=args.port,
                max_file_size=LARGEST,
                allowed_paths=examples,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise UserError(f"--port {args.port}: {error}") from None
        stop.wait()
        blocks.close(verbose=False)
    return 0


if __name__ == "__main__":
    cli.run(main)
