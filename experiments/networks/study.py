"""Trains each candidate network for the same minutes on the same rendered words; reads real ones.

    python experiments/networks/study.py -o DIR --validation a/labels.tsv b/labels.tsv

A candidate's rate is measured first, on a quiet machine (`--rates`); minutes times rate are its
images, so that a machine that does other work later changes nothing in the comparison. A run that
was killed goes on from its last checkpoint; a finished one is not run again.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

sys.path[:0] = [str(Path(__file__).parents[2])]

from configs.synthetic import get_config  # noqa: E402
from crnn_jax import cpu_settings  # noqa: E402
from crnn_jax.core.charset import Charset  # noqa: E402
from crnn_jax.core.preprocessing import Preprocessing  # noqa: E402
from crnn_jax.data.files import FileSource  # noqa: E402
from crnn_jax.data.loader import batches  # noqa: E402
from crnn_jax.data.plan import Plan  # noqa: E402
from crnn_jax.decoding.greedy import greedy_decode  # noqa: E402
from crnn_jax.models import native_library  # noqa: E402
from crnn_jax.models.ctc import ctc_loss, is_feasible  # noqa: E402
from crnn_jax.scoring.compare import Pairs, newcombe  # noqa: E402
from crnn_jax.scoring.output import markdown, percent_with_interval  # noqa: E402
from crnn_jax.synthetic.source import SyntheticSource  # noqa: E402
from crnn_jax.training.optimizer import make_optimizer, make_schedule  # noqa: E402
from experiments.benchmarks import flops  # noqa: E402
from experiments.networks.networks import CANDIDATES, Network  # noqa: E402

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
BATCH = 32
WIDTHS = (48, 64, 80, 96, 128, 176, 256)  # of batches, pixels at height 32
RATE, WARM, EMA = 1e-3, 100, 0.99
BLANK = len(CHARACTERS)
HEADS = ("second", "guide")  # dropped after training
BOTH = ((1, 1), (1, 0), (0, 1), (0, 0))  # right by base, right by another


def preprocessing_of(candidate) -> Preprocessing:
    scale = candidate.height / 32
    return Preprocessing(
        height=candidate.height,
        min_width=round(candidate.min_width * scale),
        max_width=round(256 * scale),
    )


def plan_of(source, candidate, **options) -> Plan:
    widths = [round(w * candidate.height / 32) for w in WIDTHS]
    rule = preprocessing_of(candidate)
    return Plan(
        source, boundaries=[w for w in widths if w >= rule.min_width], preprocessing=rule,
        geometry="keras", **options,
    )  # fmt: skip


def optimizer_of(steps: int) -> optax.GradientTransformation:
    config = get_config().optimizer
    with config.unlocked():
        config.learning_rate, config.warmup_steps, config.schedule = RATE, WARM, "cosine"
    return make_optimizer(config, make_schedule(config, steps))


def other_view(image: jax.Array, key: jax.Array) -> jax.Array:
    """uint8 [b h w 1] with other contrast, brightness and grain, and a tenth of it covered.

    Nothing moves: both views of an image have the same letters in the same frames.
    """
    b, _, w, _ = image.shape
    gain, shift, grain, cover = jax.random.split(key, 4)
    x = image.astype(jnp.float32)
    mean = x.mean((1, 2, 3), keepdims=True)
    x = mean + (x - mean) * jnp.exp(0.3 * jax.random.normal(gain, (b, 1, 1, 1)))
    x = x + 20.0 * jax.random.normal(shift, (b, 1, 1, 1))
    x = x + 12.0 * jax.random.normal(grain, x.shape)
    covered = jax.random.uniform(cover, (b, 1, -(-w // 8), 1)) < 0.1
    x = jnp.where(jnp.repeat(covered, 8, 2)[:, :, :w], mean, x)
    return jnp.clip(x, 0, 255).astype(jnp.uint8)


def spelling_loss(logits: jax.Array, label: jax.Array, length: jax.Array) -> jax.Array:
    """float32 [b], nats: cross-entropy of the guide's letters and of the end behind them."""
    at = jnp.arange(logits.shape[1])[None]
    wanted = jnp.where(at < length[:, None], jnp.pad(label, ((0, 0), (0, 1))), BLANK)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, wanted)
    return jnp.where(at <= length[:, None], losses, 0).sum(1)


def disagreement(logits: jax.Array, lengths: jax.Array) -> jax.Array:
    """float32 [2 b], nats over all frames: how far each view is from the other (CR-CTC)."""
    logs = nn.log_softmax(logits)
    wanted = lax.stop_gradient(jnp.roll(logs, len(logs) // 2, 0))
    apart = (jnp.exp(wanted) * (wanted - logs)).sum(-1)
    return jnp.where(jnp.arange(logs.shape[1])[None] < lengths[:, None], apart, 0).sum(1)


def make_step(network, optimizer):
    """`(state, batch) -> (state, loss)`; only the gradient is compiled for every shape."""
    net = network.candidate

    @jax.jit
    def differentiate(state, batch):
        key = jax.random.fold_in(jax.random.key(0), state["step"])
        if net.views:
            batch = {name: jnp.concatenate([value, value]) for name, value in batch.items()}
            first = jnp.split(batch["image"], 2)[0]
            batch["image"] = jnp.concatenate([first, other_view(first, key)])

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            (logits, lengths, extra), new = network.apply(
                variables, batch["image"], batch["width"], batch["label"],
                train=True, mutable=["batch_stats"],
            )  # fmt: skip
            label = batch["label"], batch["label_length"]
            usable = batch["mask"] & is_feasible(lengths, *label)
            loss = ctc_loss(logits, lengths, *label, blank_id=BLANK)
            if net.second:
                second = ctc_loss(extra["second"], lengths, *label, blank_id=BLANK)
                loss = loss + net.second * second
            if net.guide:
                loss = loss + net.guide * spelling_loss(extra["guide"], *label)
            if net.views:
                loss = loss + net.views * disagreement(logits, lengths)
            loss = jnp.where(usable, loss, 0).sum()
            return loss / jnp.maximum(usable.sum(), 1), new["batch_stats"]

        return jax.value_and_grad(loss_fn, has_aux=True)(state["params"])

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, stats, grads):
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        decay = jnp.minimum(EMA, (1.0 + state["step"]) / (10.0 + state["step"]))
        ema = jax.tree.map(
            lambda a, b: decay * a + (1 - decay) * b,
            state["ema"],
            {"params": params, "batch_stats": stats},
        )
        return {"step": state["step"] + 1, "params": params, "batch_stats": stats,
                "opt_state": opt_state, "ema": ema}  # fmt: skip

    def step(state, batch):
        (loss, stats), grads = differentiate(state, batch)
        return update(state, stats, grads), loss

    return step


def begin(network, optimizer, seed):
    h = network.candidate.height
    image, width = jnp.zeros((1, h, 64, 1), jnp.uint8), jnp.full((1,), 64, jnp.int32)
    label = jnp.zeros((1, 4), jnp.int32)
    variables = jax.jit(lambda key: network.init(key, image, width, label, train=False))(
        jax.random.key(seed)
    )
    return {
        "step": jnp.zeros((), jnp.int32), **variables,
        "opt_state": optimizer.init(variables["params"]), "ema": jax.tree.map(jnp.array, variables),
    }  # fmt: skip


def on_device(batch):
    return {k: jnp.asarray(batch[k]) for k in ("image", "width", "label", "label_length", "mask")}


def measure_rate(name, dtype, seconds=6.0) -> dict:
    """Images a second in training and reading: batches of 32 (64) pictures of aspect 3."""
    candidate = CANDIDATES[name]
    network = Network(candidate, 37, dtype)
    optimizer = optimizer_of(1000)
    state = begin(network, optimizer, 0)
    step = make_step(network, optimizer)
    rng = np.random.default_rng(0)
    h, w = candidate.height, max(3 * candidate.height, candidate.min_width * candidate.height // 32)

    def made(b):
        return {
            "image": jnp.asarray(rng.integers(0, 255, (b, h, w, 1)).astype(np.uint8)),
            "width": jnp.full((b,), w), "label": jnp.asarray(rng.integers(0, 36, (b, 6))),
            "label_length": jnp.full((b,), 6), "mask": jnp.ones((b,), bool),
        }  # fmt: skip

    batch = made(BATCH)
    state, loss = step(state, batch)
    times = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        state, loss = step(state, batch)
        jax.block_until_ready(loss)
        times.append(time.perf_counter() - at)
    plain = Network(candidate, 37, "float32")
    read = jax.jit(lambda v, i, w: plain.apply(v, i, w, train=False)[0])
    params, variables = state["params"], {k: state[k] for k in ("params", "batch_stats")}
    reading = []
    big = made(64)
    for _ in range(8):
        at = time.perf_counter()
        read(variables, big["image"], big["width"]).block_until_ready()
        reading.append(time.perf_counter() - at)
    dropped = sum(a.size for k in HEADS if k in params for a in jax.tree.leaves(params[k]))
    by_xla = Network(candidate, 37, native=False)
    image = big["image"][:1], big["width"][:1]
    return {
        "train": BATCH / float(np.median(times)), "read": 64 / float(np.median(reading[1:])),
        "parameters": sum(a.size for a in jax.tree.leaves(params)) - dropped,
        "flops": flops.of(lambda *x: by_xla.apply(variables, *x, train=False), *image),
        "dtype": dtype,
    }  # fmt: skip


def read_all(network, variables, sources, candidate):
    """{name of the set's folder: bool per picture, alphanumeric and ignoring case}."""
    step = jax.jit(
        lambda v, i, w: greedy_decode(*network.apply(v, i, w, train=False), blank_id=BLANK)
    )
    found = {}
    for source in sources:
        plan = plan_of(source, candidate, batch_size=64, shuffle=False, all=True)
        right = np.zeros(len(source), bool)
        for batch in batches(plan, source, plan.preprocessing, stop=plan.steps_per_epoch):
            ids, lengths = jax.device_get(step(variables, batch["image"], batch["width"]))
            for i, text, row, n in zip(batch["id"], batch["text"], ids, lengths, strict=True):
                wanted = "".join(c for c in text.lower() if c in CHARACTERS)
                if i >= 0:
                    right[i] = "".join(CHARACTERS[k] for k in row[:n]) == wanted
        found[Path(source.name).parent.name] = right
    return found


def train(name, args, rate, charset) -> None:
    candidate = CANDIDATES[name]
    folder = args.output / (name if args.seed == 0 else f"{name}-{args.seed}")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "result.json").exists():
        return
    steps = round(args.minutes * 60 * rate["train"] / BATCH)
    optimizer = optimizer_of(steps)
    network = Network(candidate, 37, rate["dtype"])
    state = begin(network, optimizer, args.seed)
    saved = folder / "state.msgpack"
    if saved.exists():
        state = flax.serialization.from_bytes(state, saved.read_bytes())
    step = make_step(network, optimizer)
    config = get_config().synthetic
    with config.unlocked():
        config.style, config.count, config.heights = args.style, 10_000_000, (32, 56)
    source = SyntheticSource(config, charset, seed=args.seed)
    plan = plan_of(source, candidate, batch_size=BATCH, max_label_length=24, seed=args.seed)
    at, losses, begun = int(state["step"]), [], time.time()
    stream = batches(plan, source, plan.preprocessing, start=at, stop=steps, workers=1)
    for number, batch in enumerate(stream, at + 1):
        state, loss = step(state, on_device(batch))
        losses.append(loss)
        if number % 100 == 0 or number == steps:
            mean = float(jnp.mean(jnp.stack(losses)))
            losses.clear()
            line = f"{name} {number}/{steps} loss {mean:.3f} {time.time() - begun:.0f} s"
            print(line, flush=True)
            with (folder / "log.txt").open("a") as log:
                print(line, file=log)
            part = saved.with_suffix(".part")
            part.write_bytes(flax.serialization.to_bytes(jax.device_get(state)))
            part.replace(saved)
    sources = [FileSource(str(path), charset) for path in args.validation]
    plain = Network(candidate, 37, "float32")
    right = read_all(plain, state["ema"], sources, candidate)
    bits = {k: [r.size, np.packbits(r).tobytes().hex()] for k, r in right.items()}
    result = {**rate, "images": steps * BATCH, "seed": args.seed, "right": bits}
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    print(name, {k: f"{100 * r.mean():.1f} %" for k, r in right.items()}, flush=True)
    saved.unlink()


def report(folder: Path) -> Iterator[str]:
    """A Markdown table of the finished candidates, best first, each paired with `base`."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        bits = result["right"].values()
        right = [np.unpackbits(np.frombuffer(bytes.fromhex(b), np.uint8))[:n] for n, b in bits]
        found[path.parent.name] = result, right
    if "base" not in found:
        return
    base = np.concatenate(found["base"][1])
    head = "candidate", "parameters, M", "GFLOP an image", "trained, images/s", "read, images/s"
    lines = [(*head, "images", *found["base"][0]["right"], "all", "to base")]
    ranked = sorted(found.items(), key=lambda one: -np.concatenate(one[1][1]).mean())
    for name, (result, right) in ranked:
        cells = [f"{result['parameters'] / 1e6:.2f}", f"{result['flops'] / 1e9:.2f}"]
        cells += [f"{result['train']:.0f}", f"{result['read']:.0f}", f"{result['images']:,}"]
        cells += [f"{100 * np.mean(r):.1f}" for r in right]
        every = np.concatenate(right)
        pairs = Pairs(*(int(np.sum((base == a) & (every == b))) for a, b in BOTH))
        low, high = newcombe(pairs)
        apart = f"{100 * pairs.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        cells += [percent_with_interval(int(every.sum()), every.size), apart]
        lines.append((name, *cells))
    yield from markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--validation", type=Path, nargs="+", default=[])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", default="scene")
    parser.add_argument("--rates", action="store_true", help="measure rates only")
    args = parser.parse_args()
    cpu_settings.apply()
    args.output.mkdir(parents=True, exist_ok=True)
    rates_file = args.output / "rates.json"
    rates = json.loads(rates_file.read_text()) if rates_file.exists() else {}
    dtype = native_library.resolve_dtype("auto", "auto")
    for name in args.candidates:
        if name not in rates:
            rates[name] = measure_rate(name, dtype)
            rates_file.write_text(json.dumps(rates, indent=1))
            print(name, rates[name], flush=True)
    if not args.rates:
        charset = Charset.from_characters(CHARACTERS, ignore_case=True)
        for name in args.candidates:
            train(name, args, rates[name], charset)
        print(*report(args.output), sep="\n")


if __name__ == "__main__":
    main()
