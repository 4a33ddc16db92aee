"""Compiles a network into a library and its weights, with the best schedules of a database.

The weights are no part of the library: they become arguments of ``main`` after its inputs, rearranged into
the layouts that the schedules want, so that loading a network is loading two files:

    library = tvm.runtime.load_module("library.so")
    weights = tvm.runtime.load_param_dict(open("weights.params", "rb").read())
    main = relax.VirtualMachine(library, tvm.cpu())["main"]
    main(image, *(weights[name] for name in sorted(weights)))

Compiling happens in a process of its own: should TVM or LLVM crash, it is told as an error.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

from targets import TargetInfo
from tuning.building.gpu_limits import within_limits
from tuning.errors import TuningError
from tuning.first_schedules import first_schedules, without_record
from tuning.folding import fold
from tuning.functions import Calls, NetworkFunction
from tuning.intrinsics import import_cpu_intrinsics
from tuning.lowering import winograd
from tuning.lowering.choice import choose
from tuning.memory import plan_memory
from tuning.prepare import prepare
from tuning.records import database as db
from tuning.records import verdicts
from tuning.records.verdicts import Verdicts
from tuning.untuned import schedule_untuned
from tuning.workers import call

LIBRARY = "library.so"
WEIGHTS = "weights.params"
FUNCTIONS_ALONE = "functions.so"
_COMPILE_SECONDS = 900.0
_OTHER_LAYOUT = "_prepacked"


@dataclass(frozen=True)
class _Summary:
    """What compiling tells besides the two files."""

    records_applied: int
    functions_total: int
    untuned: list[str]
    planned_bytes: int
    functions: tuple[NetworkFunction, ...]
    cleaning: db.Cleaning


class Compiled:
    """A compiled network: a library, its weights, and what went into them.

    Attributes
    ----------
    records_applied : int
        Functions whose schedule came from the database.
    functions_total : int
        Functions the network calls.
    untuned : list of str
        Functions without a record. They have a plain schedule, or on a processor the one that a record of a
        function like them says. The few for which there is none have TVM's default: one thread, no vectors.
    planned_bytes : int
        Bytes of the memory planned for what flows between the functions.
    functions : tuple of NetworkFunction
        The functions that one inference calls.
    cleaning : Cleaning
        What was left out of the database, wrong schedules among it.
    """

    def __init__(self, folder: tempfile.TemporaryDirectory, summary: _Summary) -> None:
        self._folder = folder
        self.records_applied = summary.records_applied
        self.functions_total = summary.functions_total
        self.untuned = summary.untuned
        self.planned_bytes = summary.planned_bytes
        self.functions = summary.functions
        self.cleaning = summary.cleaning

    @property
    def launches(self) -> int:
        """Kernels that one inference launches on a GPU; on a processor, calls of functions."""
        return sum(function.launches for function in self.functions)

    @property
    def winograd_layers(self) -> int:
        """Convolutions that Winograd's algorithm computes."""
        return sum(function.calls for function in self.functions if winograd.NAME in function.name)

    @property
    def library(self) -> Path:
        """The shared library, in a directory that goes with this object."""
        return Path(self._folder.name) / LIBRARY

    @property
    def weights(self) -> Path:
        """The weights in TVM's parameter format, in a directory that goes with this object."""
        return Path(self._folder.name) / WEIGHTS

    @property
    def functions_alone(self) -> Path | None:
        """A shared library of the network's functions without the network, if one was asked for."""
        path = Path(self._folder.name) / FUNCTIONS_ALONE
        return path if path.exists() else None

    @cached_property
    def executable(self) -> tvm.runtime.Module:
        """The library, loaded here; a ``relax.VirtualMachine`` takes it."""
        return tvm.runtime.load_module(str(self.library))

    @cached_property
    def params(self) -> dict[str, Any]:
        """The weights as NumPy arrays; ``main`` takes them after its inputs in the order of their names."""
        tensors = tvm.runtime.load_param_dict(self.weights.read_bytes())
        return {str(name): tensors[name].numpy() for name in sorted(tensors, key=str)}

    def export(self, library: Path, weights: Path | None = None) -> None:
        """Write the library, and the weights if a path for them is given; each appears whole or not at all.

        Raises
        ------
        TuningError
            If a file cannot be written.
        """
        _copy(self.library, Path(library))
        if weights is not None:
            _copy(self.weights, Path(weights))


def compile_module(
    module: IRModule,
    target: TargetInfo,
    database_dir: Path | None,
    functions_alone: bool = False,
    exact_math: bool = False,
) -> Compiled:
    """Compile a network.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main`` (NCHW, not legalised), its weights as constants in place.
    target : TargetInfo
        What to compile for.
    database_dir : Path or None
        The directory given to ``tune``; None compiles without tuned schedules, see `Compiled.untuned`.
    functions_alone : bool
        Whether the functions are wanted alone, too, to be timed; linking takes twice as long.
    exact_math : bool
        Whether all convolutions are computed directly, where the database knows Winograd's algorithm to be
        faster, too.

    Raises
    ------
    TuningError
        If compiling fails, or not all of the network would run on the target's GPU; the message holds the
        cause.
    targets.TargetError
        If the target's compiler is missing.
    """
    target.require_compiler()
    folder = tempfile.TemporaryDirectory(prefix="deeprebirth-compile-")
    arguments = (module, target, database_dir, folder.name, functions_alone, exact_math)
    outcome = call(compile_into, *arguments, seconds=_COMPILE_SECONDS)
    if outcome.cause is not None:
        folder.cleanup()
        raise TuningError(f"compiling for {target.name} failed: {outcome.cause}")
    return Compiled(folder, outcome.value)


def compile_into(
    module: IRModule,
    target: TargetInfo,
    database_dir: Path | None,
    folder: str,
    functions_alone: bool,
    exact_math: bool = False,
) -> _Summary:
    """Compile a network into the files of ``folder``."""
    import_cpu_intrinsics()
    tvm_target = target.target()
    with db.readable(database_dir, tvm_target) as (database, cleaning):
        module = choose(module, tvm_target, database, exact_math or database_dir is None)
        module = prepare(module, tvm_target)
        without = without_record(module, tvm_target, database)
        if target.gpu is None:
            first = first_schedules(without, target, database, _verdicts(database_dir, tvm_target))
            database = ms.database.OrderedUnionDatabase(database, first)
        module = _apply(module, tvm_target, database)
    if target.gpu is not None:
        module = schedule_untuned(module, tvm_target)
    module, weights = _lift_constants(module)
    planned, calls = _PlannedBytes(), Calls()
    with tvm_target, tvm.transform.PassContext(opt_level=3), within_limits(target.gpu):
        executable = relax.build(module, tvm_target, relax_pipeline=_lowering(planned, calls))
    executable.export_library(str(Path(folder) / LIBRARY), cc=target.require_compiler())
    if functions_alone:
        (alone,) = executable.mod.imports
        alone.export_library(str(Path(folder) / FUNCTIONS_ALONE), cc=target.require_compiler())
    (Path(folder) / WEIGHTS).write_bytes(tvm.runtime.save_param_dict(weights))
    functions = calls.functions(None if target.gpu is None else executable.mod)
    names = sorted(each.name.removesuffix(_OTHER_LAYOUT) for each in functions)
    untuned = [name for name in names if name in without]
    return _Summary(len(names) - len(untuned), len(names), untuned, planned.total, functions, cleaning)


def _apply(module: IRModule, target: tvm.target.Target, database: Any) -> IRModule:
    """Give functions the best schedules known, and constants the layouts these want."""
    with target, database, tvm.transform.PassContext(opt_level=3):
        phases = [
            relax.transform.MetaScheduleApplyDatabase(),
            relax.transform.SplitLayoutRewritePreproc(),
            relax.transform.EliminateCommonSubexpr(),
        ]
        module = tvm.transform.Sequential(phases)(module)
    return relax.transform.DeadCodeElimination()(fold(module))


def _verdicts(database_dir: Path | None, target: tvm.target.Target) -> Verdicts | None:
    return None if database_dir is None else verdicts.read(db.directory(Path(database_dir), target))


def _lift_constants(module: IRModule) -> tuple[IRModule, dict[str, tvm.runtime.Tensor]]:
    """Turn the constants of ``main`` into parameters after its inputs, named in their order."""
    lifter = _ConstantLifter()
    main = module["main"]
    body = lifter.visit_expr(main.body)
    function = relax.Function([*main.params, *lifter.params], body, main.ret_ty, attrs=main.attrs)
    module = IRModule({**dict(module.functions_items()), module.get_global_var("main"): function})
    return relax.transform.Normalize()(module), lifter.weights


@relax.expr_functor.mutator
class _ConstantLifter(relax.PyExprMutator):
    def __init__(self) -> None:
        super().__init__()
        self.params: list[relax.Var] = []
        self.weights: dict[str, tvm.runtime.Tensor] = {}
        self._seen: dict[tvm.ir.GenericConst, relax.Var] = {}

    def visit_generic_const_(self, constant: tvm.ir.GenericConst) -> relax.Expr:
        if constant not in self._seen:
            name = f"weight_{len(self.params):05d}"
            self._seen[constant] = relax.Var(name, constant.ty)
            self.params.append(self._seen[constant])
            self.weights[name] = constant.value
        return self._seen[constant]


def _lowering(planned: "_PlannedBytes", calls: Calls) -> tvm.transform.Pass:
    """The phases from calls of TIR functions to the virtual machine's instructions."""
    return tvm.transform.Sequential(
        [
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            plan_memory(),
            calls.as_pass(),
            planned.as_pass(),
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )


class _PlannedBytes:
    """Sums the storage that memory planning allocated."""

    def __init__(self) -> None:
        self.total = 0

    def as_pass(self) -> tvm.transform.Pass:
        @tvm.transform.module_pass(opt_level=0, name="SumPlannedBytes")
        def sum_planned_bytes(module: IRModule, _: tvm.transform.PassContext) -> IRModule:
            relax.analysis.post_order_visit(module["main"].body, self._add)
            return module

        return sum_planned_bytes

    def _add(self, expression: relax.Expr) -> None:
        if isinstance(expression, relax.Call) and expression.op == tvm.ir.Op.get(
            "relax.memory.alloc_storage"
        ):
            self.total += int(expression.args[0].values[0])


def _copy(source: Path, destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, destination)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TuningError(f"cannot write {destination}: {error.strerror or error}") from None
