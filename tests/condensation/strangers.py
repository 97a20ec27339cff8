"""Table of what `survey` and `condense` make of networks of other packages, with random weights.

    python tests/condensation/strangers.py [--half] [--json FILE] [--limit SECONDS] [NAME ...]

A name, or the beginning of one, chooses models; a package that is not installed is passed over. Every model has a
process of its own, which may take so many seconds of processor time. The share is of the channels of all layers, those
left out that are outputs; layers that the example does not run, or that are not known, count as held back. With
`--half` it is condensed to half of its parameters, with drawn calibration inputs where the weights alone do not lead
there, or to the least that is possible, and has to run, to train a step, to be built again from its class and its
weights, to be exported, and to be smaller; what the model itself does not do is not asked of what becomes of it, and
told. Models that are in the file already are not tried again.
"""

import argparse
import collections
import dataclasses
import io
import json
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from strangers_zoo import MODELS, NotInstalled, built, models
from torch import nn

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.inputs import Inputs, drawn, leaves
from chemnet.runtime.errors import ChemnetError, UsageError

CONDENSABLE, OUTPUT = "can be condensed", "it is an output of the model"
CALIBRATION = 64  # inputs, drawn like the example
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclasses.dataclass
class Row:
    """What became of one model; `share` of its channels, outputs left out, can be condensed, and `reason` holds back
    most of the others. `parameters` are the share that is left, `failed` the checks that the result does not pass,
    `unable` those that the model itself does not pass; `seconds` are of processor time."""

    name: str
    share: float | None = None
    reason: str = ""
    parameters: float | None = None
    failed: str = ""
    unable: str = ""
    seconds: float = 0.0


def examined(name: str, *, half: bool) -> Row:
    """One model, in this process."""
    row = Row(name)
    torch.manual_seed(0)
    model, example = built(name)
    inputs = Inputs.of(example, model)
    try:
        row.share, row.reason = of_channels(model, inputs)
        if half and row.share:
            row.parameters, row.failed, row.unable = halved(name, model, inputs)
    except ChemnetError as error:
        what = "not traced" if row.share is None else "not condensed"
        row.failed = f"{what}: {' / '.join(str(error).splitlines())}"
    row.seconds = time.process_time()
    return row


def of_channels(model: nn.Module, inputs: Inputs) -> tuple[float, str]:
    """Share of the channels that can be condensed, and the reason that holds back most; layers that the table does not
    list count as held back."""
    every, listed, reasons = 0, set(), collections.Counter()
    for layers, width, state in survey(model, inputs).rows:
        listed |= set(layers.split(", "))
        every += 0 if state == OUTPUT else width
        if state not in (CONDENSABLE, OUTPUT):
            reasons[kind_of(state, model)] += width
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and name not in listed:
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            if not getattr(module, "groups", 1) > 1:
                every += width
                reasons["the example does not run it, or the layer is not known"] += width
    held = sum(reasons.values())
    most = f"{reasons.most_common(1)[0][0]} ({100 * reasons.most_common(1)[0][1] / every:.0f} %)" if held else ""
    return (1.0 - held / every if every else 0.0), most


def kind_of(state: str, model: nn.Module) -> str:
    """A reason without the names of modules and numbers in it."""
    words = [word for word in state.split() if word.strip("():,") not in dict(model.named_modules())]
    return re.sub(r"\d+", "#", re.sub(r" ?\(\w+_?\d*\)(?= )", "", " ".join(words)))


def halved(name: str, model: nn.Module, inputs: Inputs) -> tuple[float, str, str]:
    """Share of the parameters that is left, the checks that fail, and those that the model itself does not pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smaller = at_half(model, inputs)
        left = parameters(smaller) / parameters(model)
        failed, unable = list[str](), list[str]()
        for what, check in {"runs": runs, "trains": trains, "rebuilt": rebuilt, "exports": exports}.items():
            if error := fault(check, name, smaller, inputs):
                is_able = fault(check, name, built(name)[0], inputs) is None
                (failed if is_able else unable).append(f"{what} ({error})")
    return left, ", ".join(failed + (["smaller"] if left >= 1.0 else [])), ", ".join(unable)


def at_half(model: nn.Module, inputs: Inputs) -> nn.Module:
    """Condensed to half of the parameters: by the weights alone, or else with calibration inputs; to the least that is
    possible where no half is."""
    calibration = drawn(inputs, model, inputs.room(CALIBRATION))
    for options in ({}, {"calibration": calibration}):
        try:
            return condense(model, inputs, ratio=0.5, **options)
        except UsageError as error:
            least = re.search(r"no less than ([\d.e-]+)", str(error))
            if least is None:
                raise
    return condense(model, inputs, ratio=min(1.0, float(least[1]) * 1.02 + 0.005), calibration=calibration)


def fault(check, name, model, inputs) -> str | None:
    try:
        check(name, model, inputs.map(torch.clone))
    except Exception as error:  # whatever the model's own code raises
        return f"{type(error).__name__}: {(str(error).strip() or ' ').splitlines()[0][:100]}"
    return None


def runs(name, model, inputs):
    with torch.no_grad():
        assert all(x.isfinite().all() for x in leaves(inputs(model.eval())) if x.is_floating_point())


def trains(name, model, inputs):
    model.train()
    try:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        losses = [x.float().square().mean() for x in leaves(inputs(model)) if x.is_floating_point() and x.requires_grad]
        sum(losses).backward()
        optimizer.step()
    finally:
        model.eval()


def rebuilt(name, model, inputs):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    again = resize(built(name)[0], torch.load(buffer, weights_only=False)).eval()
    with torch.no_grad():
        pairs = zip(leaves(inputs(again)), leaves(inputs(model.eval())), strict=True)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs), "other outputs"


def exports(name, model, inputs):
    """In the first of two ways in which the model itself can be."""
    for way in (exported, exported_to_onnx):
        error = fault(way, name, model, inputs)
        if error is None:
            return
        if fault(way, name, built(name)[0], inputs) is None:
            break
    raise RuntimeError(error)


def exported(name, model, inputs):
    torch.export.export(model.eval(), inputs.args, dict(inputs.kwargs), strict=False)


def exported_to_onnx(name, model, inputs):
    torch.onnx.export(model.eval(), inputs.args, io.BytesIO(), kwargs=dict(inputs.kwargs), dynamo=False)


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def in_a_process(name: str, *, half: bool, limit: int) -> Row:
    """One model, in another process."""
    command = [sys.executable, __file__, "--one", name, "--limit", str(limit), *(["--half"] if half else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGXCPU:
        return Row(name, failed=f"took longer than {limit} s of processor time", seconds=limit)
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not found:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Row(name, failed=f"not built: {last}"[:160])
    return Row(**json.loads(found[-1]))


def line(row: Row) -> str:
    """One line of the table."""
    share = "-" if row.share is None else f"{100 * row.share:.0f} %"
    left = "" if row.parameters is None else f" {100 * row.parameters:.0f} % of the parameters"
    unable = f" | the model itself: not {row.unable}" if row.unable else ""
    return f"| {row.name} | {share} |{left} | {row.failed or row.reason}{unable} | {row.seconds:.0f} s |"


def read(file: Path | None) -> list[Row]:
    """The rows of a file; none where it is not there."""
    return [Row(**each) for each in json.loads(file.read_text())] if file and file.exists() else []


def main() -> None:
    """Print the table, its totals last."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        resource.setrlimit(resource.RLIMIT_CPU, (options.limit, resource.RLIM_INFINITY))
        print(json.dumps(dataclasses.asdict(examined(options.names[0], half=options.half))))
        return
    asked = models(options.names)
    rows = [row for row in read(options.json) if row.name in asked]
    for name in [name for name in asked if all(row.name != name for row in rows)]:
        row = in_a_process(name, half=options.half, limit=options.limit)
        if NotInstalled.__name__ in row.failed:
            print(f"{name}: {row.failed}", flush=True)
            continue
        rows.append(row)
        print(line(row), flush=True)
        if options.json:
            others = [row for row in read(options.json) if row.name not in asked]
            options.json.write_text(json.dumps([dataclasses.asdict(row) for row in [*others, *rows]], indent=1))
    traced = [row for row in rows if row.share is not None]
    half = sum(row.share > 0.5 for row in traced)
    print(f"{len(rows)} of {len(MODELS)} models: {len(traced)} traced, {half} of them by more than half")
    if options.half:
        tried = [row for row in traced if row.parameters]
        passed = sum(not row.failed for row in tried)
        print(
            f"all checks passed by {passed}, {sum(row.parameters <= 0.5 for row in tried)} are left with half or less"
        )


if __name__ == "__main__":
    main()
