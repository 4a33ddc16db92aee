from pathlib import Path

from torch import nn

from pipeline import Inspection, inspect
from relay_passes import Kind


def names(inspection: Inspection, kind: Kind) -> set[str]:
    return {candidate.name for candidate in inspection.plan.candidates if candidate.kind == kind}


def test_layers_and_plan(small_onnx: Path):
    inspection = inspect(small_onnx)
    assert [layer.name for layer in inspection.layers][:3] == ["stem", "norm", "norm.shift"]
    assert names(inspection, Kind.FOLD) == {"norm"}
    assert names(inspection, Kind.STREAMLINE) == {"stem"}
    assert inspection.original.macs == 8 * 64 * 27 + 128 * 5
    assert inspection.merged.macs == 8 * 16 * 27 + 128 * 5


def test_round_trip(small_onnx: Path):
    inspection = inspect(small_onnx)
    assert Inspection.model_validate_json(inspection.model_dump_json()) == inspection


def test_a_module_in_memory(small_module: nn.Module):
    inspection = inspect(small_module, input_shapes={"input": (1, 3, 8, 8)})
    assert inspection.framework == "torch"
    assert names(inspection, Kind.FOLD) == {"1", "1.shift"}
