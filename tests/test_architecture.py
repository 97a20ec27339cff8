"""The house: imports go down only, every heavy library has its own doors. Only reads the sources."""

import ast
from pathlib import Path

import pytest
from tracked import ROOT, tracked

# Rooms of chemnet by floor, from the ground up: a module may import from the floors below its own, and from its room.
FLOORS = (
    {"version"},
    {"runtime"},
    {"gas"},
    {"kinetics", "condensation"},
    {"data", "surrogate"},
    {"benchmark"},
    {"validation"},
    {"training"},
    {"reduction"},
    {"vision"},
    {"making"},
    {"cli"},
    {"__main__"},
)

# Files of cfd_coupling, from the ground up.
# fmt: off
CFD_COUPLING = [
    "config", "grid", "burnt_area", "kernels",
    "parallel", "fields", "rows", "load_balance",
    "gas",
    "boundary",
    "active_cells", "rkl2",
    "convection", "diffusion", "expansion", "momentum", "pressure",
    "initial", "chemistry",
    "output", "checkpoint",
    "stepping",
    "monitors", "progress", "control", "summary", "folder",
    "simulation", "compare", "flame_speed", "visited_states", "small_box", "pictures", "report",
    "verification",
    "__main__",
]
# fmt: on

# Which modules may import a heavy library (a package's name stands for all of its modules).
DOORS = {
    "mpi4py": {"cfd_coupling.parallel", "chemnet.runtime.processes"},
    "h5py": {"chemnet.runtime.hdf5", "chemnet.data.dataset", "cfd_coupling.output", "cfd_coupling.checkpoint"},
    "matplotlib": {"chemnet.runtime.drawing"},
    "numba": {"chemnet.runtime.compilation", "chemnet.runtime.simd", "chemnet.kinetics.jacobian"},
    "cantera": {
        "chemnet.gas",
        "chemnet.kinetics.cvodes",
        "chemnet.kinetics.mechanism_tables",
        "chemnet.kinetics.rate_tables",
        "chemnet.kinetics.rates",
        "chemnet.kinetics.reactions",
        "chemnet.data.sampling",
        "chemnet.surrogate.deepflame",
        "chemnet.validation",
        "chemnet.making.survey",
        "cfd_coupling.gas",
        "cfd_coupling.initial",
    },
    "torch": {
        "chemnet.runtime.torch_threads",
        "chemnet.condensation",
        "chemnet.surrogate",
        "chemnet.training",
        "chemnet.reduction",
        "chemnet.vision",
    },
}

# Rooms of chemnet that condensation, a library of its own, may use; and what the flow solver may: the first anywhere,
# the others only where flow and chemistry meet.
CONDENSATION_USES = {"runtime"}
FLOW_USES = {"runtime", "gas", "version"}
CHEMISTRY = {"kinetics", "surrogate"}
MEETING_PLACES = {"initial", "chemistry", "gas"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, ast.Module]:
    """Name and syntax tree of every module of both packages."""
    paths = [*tracked("chemnet/**/*.py"), *tracked("cfd_coupling/**/*.py")]
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


MODULES = modules()


def imported(tree: ast.Module, name: str) -> set[str]:
    """Full names of what a module imports anywhere in its text; names of modules where they can be told."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}; write the full name"
            candidates = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {c if c in MODULES else str(node.module) for c in candidates}
    return found


def room(name: str) -> str:
    """The folder, or file, of a module below the top: `gas` of `chemnet.gas.closure`."""
    return name.split(".")[1]


def floor(name: str) -> int:
    """Floor of a module of chemnet."""
    floors = [number for number, rooms in enumerate(FLOORS) if room(name) in rooms]
    assert floors, f"{name} has no floor yet: add {room(name)} to FLOORS in {Path(__file__).name}"
    return floors[0]


def place(name: str) -> int:
    """Place of a module of cfd_coupling in the order of its files."""
    assert room(name) in CFD_COUPLING, f"{name} has no place yet: add it to CFD_COUPLING in {Path(__file__).name}"
    return CFD_COUPLING.index(room(name))


def inner(top: str) -> list[str]:
    """Modules of a package apart from `__init__` files, which only hand names on."""
    packages = {name.rpartition(".")[0] for name in MODULES}
    return [name for name in sorted(MODULES) if name.startswith(f"{top}.") and name not in packages]


@pytest.mark.parametrize("top, height", [("chemnet", floor), ("cfd_coupling", place)])
def test_imports_go_down_only(top, height):
    upward = [
        f"{name} imports {other}"
        for name in inner(top)
        for other in imported(MODULES[name], name)
        if other.startswith(f"{top}.") and room(name) != room(other) and height(other) >= height(name)
    ]
    assert not upward


def test_condensation_is_a_library_of_its_own():
    used = {
        room(other)
        for name in inner("chemnet")
        if room(name) == "condensation"
        for other in imported(MODULES[name], name)
        if other.startswith("chemnet.")
    }
    assert used <= CONDENSATION_USES | {"condensation"}


def test_few_files_lie_in_no_room():
    assert len(tracked("chemnet/*.py")) <= 5


def test_modules_of_one_folder_do_not_import_each_other_in_circles():
    graph = {name: imported(tree, name) & set(MODULES) for name, tree in MODULES.items()}

    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        return seen

    packages = {name.rpartition(".")[0] for name in MODULES}
    assert [name for name in graph if name not in packages and name in reaches(name)] == []


def test_chemnet_does_not_know_the_flow_solver_apart_from_its_command_line():
    knows = {n for n in inner("chemnet") if any(i.startswith("cfd_coupling") for i in imported(MODULES[n], n))}
    assert {room(name) for name in knows} <= {"cli"}


def test_the_flow_solver_uses_only_what_it_may_of_chemnet():
    for name in inner("cfd_coupling"):
        allowed = FLOW_USES | (CHEMISTRY if room(name) in MEETING_PLACES else set())
        used = {room(i) for i in imported(MODULES[name], name) if i.startswith("chemnet.")}
        assert used <= allowed, f"{name} imports {sorted(used - allowed)} of chemnet"


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_is_imported_only_through_its_doors(library):
    users = {name for name, tree in MODULES.items() if uses(library, imported(tree, name))}
    doors = DOORS[library]
    strangers = {name for name in users if not any(name == d or name.startswith(f"{d}.") for d in doors)}
    assert not strangers


def uses(library: str, names: set[str]) -> bool:
    return any(name == library or name.startswith(f"{library}.") for name in names)


def test_init_files_import_nothing_heavy():
    packages = {name.rpartition(".")[0] for name in MODULES} & set(MODULES)
    for name in packages:
        at_import = {n for node in MODULES[name].body for n in imported(ast.Module([node], []), name)}
        guarded = {
            n
            for node in MODULES[name].body
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for n in imported(ast.Module([node], []), name)
        }
        heavy = {n for n in at_import - guarded if n.partition(".")[0] in DOORS}
        assert not heavy, f"{name} imports {heavy}"


def test_public_functions_outside_compiled_kernels_are_annotated():
    bare = [
        f"{name}.{node.name}"
        for name, tree in MODULES.items()
        for node in functions(tree)
        if not node.name.startswith("_") and not is_kernel(node)
        if node.returns is None or any(missing_annotations(node))
    ]
    assert not bare


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions of a module and methods of its public classes; what is nested in them is nobody else's."""
    bodies = [tree.body] + [n.body for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    return [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]


def is_kernel(node: ast.FunctionDef) -> bool:
    """Compiled by numba, which takes its types from the call."""
    names = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(mark in name for name in names for mark in ("njit", "kernel", "intrinsic"))


def missing_annotations(node: ast.FunctionDef) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
