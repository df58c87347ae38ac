"""The same network in PyTorch, as PyTorch's users write it: no real widths, cuDNN's LSTM.

net = TorchCRNN(metadata['model']); net.take(variables)
net(images)  # uint8 or float levels [b, h, w, c] --> logits [b, t, k]
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

NORMALISED = (2, 4, 6)
POOLED = {0: 2, 1: 2, 3: 1, 5: 1}  # convolution -> horizontal stride of the pool behind it


class TorchCRNN(nn.Module):
    """Seven convolutions, two bidirectional LSTMs, class scores a frame; geometry 'keras'."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        super().__init__()
        config, image = metadata["model"], metadata["preprocessing"]
        self.mean, self.scale = image["mean"], image["scale"]
        channels = [config["channels"], *config["filters"]]
        last = len(config["filters"]) - 1
        self.convolutions = nn.ModuleList(
            nn.Conv2d(
                channels[i],
                channels[i + 1],
                2 if i == last else 3,
                padding=0 if i == last else 1,
                bias=i not in NORMALISED,
            )
            for i in range(last + 1)
        )
        self.norms = nn.ModuleDict(
            {str(i): nn.BatchNorm2d(channels[i + 1], 1e-3, 0.01) for i in NORMALISED}
        )
        self.pairs = nn.ModuleDict(
            {
                str(i): nn.Sequential(
                    nn.Conv2d(channels[i], channels[i], 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels[i], 1e-3, 0.01),
                    nn.ReLU(),
                    nn.Conv2d(channels[i], channels[i], 3, padding=1),
                )
                for i in config.get("residual", ())
            }
        )
        hidden = config["hidden"]
        self.lstm1 = nn.LSTM(channels[-1], hidden, batch_first=True, bidirectional=True)
        self.lstm2 = nn.LSTM(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.logits = nn.Linear(2 * hidden, config["num_classes"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.permute(0, 3, 1, 2).float() - self.mean) / self.scale
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if i in NORMALISED:
                x = self.norms[str(i)](x)
            x = functional.relu(x)
            if str(i + 1) in self.pairs:
                x = functional.relu(x + self.pairs[str(i + 1)](x))
            if i in POOLED:
                # TensorFlow's SAME: one column more on the right where the window leaves the edge.
                # Behind a ReLU zero is as good as -inf.
                if POOLED[i] == 1 or x.shape[3] % 2:
                    x = functional.pad(x, (0, 1))
                x = functional.max_pool2d(x, 2, (2, POOLED[i]))
        x = x.squeeze(2).transpose(1, 2)  # [b, c, 1, t] --> [b, t, c]
        x, _ = self.lstm1(x)
        x, _ = self.lstm2(x)
        return self.logits(x)

    def take(self, variables: dict[str, Any]) -> None:
        """Copies the weights of our network."""
        params, stats = variables["params"], variables["batch_stats"]
        with torch.no_grad():
            convolutions = {f"conv{i}": c for i, c in enumerate(self.convolutions, 1)}
            norms = {f"bn{int(i) + 1}": norm for i, norm in self.norms.items()}
            for i, pair in self.pairs.items():
                convolutions |= {f"res{i}a": pair[0], f"res{i}b": pair[3]}
                norms[f"bn_res{i}"] = pair[1]
            for name, convolution in convolutions.items():
                kernel = np.asarray(params[name]["kernel"])
                _copy(convolution.weight, kernel.transpose(3, 2, 0, 1))
                if convolution.bias is not None:
                    _copy(convolution.bias, params[name]["bias"])
            for name, norm in norms.items():
                _copy(norm.weight, params[name]["scale"])
                _copy(norm.bias, params[name]["bias"])
                _copy(norm.running_mean, stats[name]["mean"])
                _copy(norm.running_var, stats[name]["var"])
            for name, lstm in (("bi_lstm1", self.lstm1), ("bi_lstm2", self.lstm2)):
                for direction, suffix in (("forward", ""), ("backward", "_reverse")):
                    ours = params[name][direction]
                    _copy(getattr(lstm, f"weight_ih_l0{suffix}"), np.asarray(ours["kernel"]).T)
                    recurrent = np.asarray(ours["recurrent_kernel"]).T
                    _copy(getattr(lstm, f"weight_hh_l0{suffix}"), recurrent)
                    _copy(getattr(lstm, f"bias_ih_l0{suffix}"), ours["bias"])
                    getattr(lstm, f"bias_hh_l0{suffix}").zero_()
            _copy(self.logits.weight, np.asarray(params["logits"]["kernel"]).T)
            _copy(self.logits.bias, params["logits"]["bias"])


def _copy(parameter: torch.Tensor, values: Any) -> None:
    parameter.copy_(torch.from_numpy(np.array(values, np.float32, order="C")))
