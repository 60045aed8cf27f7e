"""What the docstrings of public names tell: numpydoc, with shapes, dtypes, errors, sources and an example that runs.

Checked are the names in `__all__` of each public module, and the public methods of their classes. What another
docstring tells need not be told again: "see `aum_core.AUMCalculator.update`" stands for the sections of that one.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import re
import sys
import textwrap
import types
from typing import Any

import numpy as np
import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate

import aum_core

MODULES = [
    "aum",
    "aum.jax",
    "aum.keras",
    "aum.parquet",
    "aum.sklearn",
    "aum.tf",
    "aum.torch",
    "aum_core",
    "aum_core.detection",
    "aum_core.files",
    "aum_core.noise",
    "aum_core.posterior",
    "aum_core.scores",
]

CODES = {
    *("GL05", "GL06", "GL07", "GL08", "GL10"),  # no docstring; tabs, unknown sections, sections in another order
    *("SS01", "SS02", "SS03", "SS06"),  # the summary: a sentence on one line
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR10"),  # parameters: all of them, no others, in order, with types
    *("RT01", "RT02", "YD01", "EX01"),  # what is returned; an example
}
"""Which of numpydoc's findings count. A description is not among them: some names and types say all that there is."""

OF_METHODS = CODES - {"RT01", "YD01", "EX01"}
"""A method tells what it gives in its summary, and the example of its class shows it."""

NO_EXAMPLE = {
    # protocols, which are never made themselves: who does as they say has the example
    "Backend": "NumpyBackend",
    "Cutoff": "Budget",
    "Observer": "Scores",
    "RecordLog": "RecordsInMemory",
    # results that users get and never make, and what only the engine makes: who makes them shows them
    "AUMRecord": "AUMCalculator",
    "AveragingWindow": "NoisePosterior",
    "Batch": "Scores",
    "EpochSums": "AUMCalculator",
    "Margins": "compute_margins",
}
"""Names without an example of their own, and which public name of `aum_core` has it."""

TELLS = {
    "AUMCallback": ("Pleiss",),
    "AUMCalculator": ("Pleiss",),
    "AUMRecord": ("logits",),
    "Margins": ("logits",),
    "NoisePosterior": ("Northcutt",),
    "Scores": ("Swayamdipta", "Paul", "Toneva"),
    "ThresholdPlan": ("Pleiss",),
    "Totals.aums": ("logits",),
    "Totals.sums": ("logits",),
    "accumulate_dynamics": ("Swayamdipta",),
    "columns": ("Paul",),
    "compute_margins": ("equation 1 of Pleiss",),
    "find_by_posterior": ("Northcutt",),
    "find_mislabeled": ("Pleiss",),
    "flip_by_matrix": ("Patrini",),
    "flip_pairs": ("Han",),
    "measure": ("equation 1 of Pleiss",),
}
"""Words that a docstring must have: the paper or equation that it follows, the unit of what it gives."""

SHAPE = re.compile(r"of shape \(|\([A-Z],|\([NBCKM]\)")
DTYPE = re.compile(r"\b(u?ints?\d*|b?floats?\d*|bools?|strs?|dtypes?)\b")
ARRAY = re.compile(r"\b(array|array_like|ndarray|tensor)\b", re.IGNORECASE)
ARRAY_TYPE = re.compile(r"([\w.]+ \| )?([a-z]+\.)?(NDArray|ArrayLike|ndarray|Array|Tensor)\b")
LINK = re.compile(r"\b[Ss]ee\s+`([\w.]+)`")
OF_BATCHES = ("logits", "targets", "sample_ids")


class Docstring(Validator):
    """A docstring as numpydoc sees it, but for what this project has beside functions of plain arguments."""

    def __init__(self, obj_name):
        super().__init__(get_doc_object(obj_name, config={"show_class_members": False}))
        self.function = obj_name.fget if isinstance(obj_name, property) else obj_name
        self.is_method = not inspect.isclass(obj_name) and "." in self.function.__qualname__
        self.linked = [Docstring(each) for name in LINK.findall(self.raw_doc) for each in meant_by(name, self.function)]

    @property
    def signature_parameters(self):
        """The names in the signature, in place of ``**options`` those that its TypedDict has; of a protocol none."""
        if isinstance(self.obj, property) or is_protocol(self.obj):
            return ()
        return tuple(name for each in super().signature_parameters for name in self._options(each))

    def _options(self, name):
        kind = str(inspect.signature(self.obj).parameters[name[2:]].annotation) if name.startswith("**") else ""
        unpacked = re.fullmatch(r"Unpack\[(\w+)\]", kind)
        return inspect.unwrap(self.obj).__globals__[unpacked[1]].__annotations__ if unpacked else [name]

    @property
    def doc_all_parameters(self):
        """What stands under Parameters; of a dataclass the fields that stand under Attributes, too."""
        found = super().doc_all_parameters
        attributes = self._doc_parameters(["Attributes"]) if dataclasses.is_dataclass(self.obj) else {}
        return found | {name: told for name, told in attributes.items() if name in self.signature_parameters}

    @property
    def parameter_mismatches(self):
        """PR01 where nothing tells of a parameter, here or where it links to; PR02 and PR03 as numpydoc has them."""
        missing = [name for name in self.signature_parameters if name not in self._told_parameters()]
        found = [("PR01", f"{', '.join(missing)} not documented")] if missing else []
        others = (error for error in super().parameter_mismatches if error[0] != "PR01")
        return found + [error for error in others if not self._in_any_order(error)]

    def _told_parameters(self):
        told = {name for each in (self, *self.linked) for name in each.doc_all_parameters}
        for each in (each for each in (self, *self.linked) if each.is_method):  # one line may tell all that there is
            told |= set(re.findall(r"(?<!`)`(\w+)`(?!`)", each.raw_doc))
        return told | (set(self.signature_parameters) if overrides_framework(self.function) else set())

    def _in_any_order(self, error):
        """Whether it is about the order of what is given by keyword, or of fields that stand together."""
        by_keyword = "Unpack[" in str(getattr(self.obj, "__annotations__", ""))
        return error[0] == "PR03" and (by_keyword or dataclasses.is_dataclass(self.obj))

    def tells(self, section):
        """Whether it has a section, or what it links to has."""
        return any(section in each.section_titles for each in (self, *self.linked))

    def tells_shape(self):
        """Whether there is a shape in it, or where it links to."""
        return any(SHAPE.search(each.raw_doc) for each in (self, *self.linked))


def class_of(function):
    """The class that a method stands in; the function itself where it is none."""
    return getattr(sys.modules[function.__module__], function.__qualname__.partition(".")[0], None)


def is_protocol(obj):
    """Whether a class is a Protocol: its signature is not its own."""
    return getattr(obj, "_is_protocol", False)


def overrides_framework(method):
    """Whether a method replaces one of a framework's class, such as a Keras callback's: parameters are told there."""
    bases = getattr(class_of(method), "__mro__", ())[1:]
    return any(hasattr(base, method.__name__) and not base.__module__.startswith("aum") for base in bases)


def meant_by(name, function):
    """The function or class, if any, that a name in the docstring of another means: beside it, or from the root."""
    beside, around = sys.modules[function.__module__], class_of(function)
    root = importlib.import_module(name.partition(".")[0]) if name.startswith(("aum.", "aum_core.")) else None
    for start, path in ((around, name), (beside, name), (root, name.partition(".")[2])):
        found = start
        for part in path.split("."):
            found = getattr(found, part, None)
        if inspect.isroutine(found) or inspect.isclass(found):
            return [found]
    return []


def public_objects(module):
    """The public functions and classes of a module, and the public methods of its classes, by name."""
    found = {}
    for name in module.__all__:
        obj = getattr(module, name)
        if inspect.isclass(obj) or inspect.isfunction(obj) or hasattr(obj, "func"):  # a partial has one
            found[name] = obj
        if inspect.isclass(obj):
            package = obj.__module__.partition(".")[0]
            own = (each for each in reversed(obj.__mro__) if each.__module__.partition(".")[0] in (package, "aum_core"))
            found |= {f"{name}.{key}": method for each in own for key, method in methods_of(each)}
    return found


def methods_of(cls):
    """Public methods and properties that a class defines itself."""
    for name, each in vars(cls).items():
        method = each.__func__ if isinstance(each, staticmethod | classmethod) else each
        if not name.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
            yield name, method


def gaps(module):
    """What the docstrings of a module leave out, line by line."""
    objects = public_objects(module).items()
    return [f"{module.__name__}.{name}: {gap}" for name, obj in objects for gap in gaps_of(name, obj)]


def gaps_of(name, obj):
    """What one docstring leaves out."""
    if not (inspect.isclass(obj) or inspect.isfunction(obj) or isinstance(obj, property)):
        return [f"help() is about {type(obj).__name__}"]
    made_by_dataclass = inspect.isclass(obj) and (obj.__doc__ or "").startswith(f"{obj.__name__}(")
    if not inspect.getdoc(obj) or made_by_dataclass or (inspect.isclass(obj) and not obj.__doc__):
        return ["GL08 no docstring"]
    if not obj.__doc__:  # a method has that of its base class, which is checked there or is a framework's
        return []
    doc = Docstring(obj)
    return [*numpydoc_gaps(name, doc), *example_gaps(doc), *error_gaps(doc), *array_gaps(doc), *word_gaps(name, doc)]


def numpydoc_gaps(name, doc):
    """What numpydoc finds, of that which counts."""
    codes = OF_METHODS if doc.is_method else CODES
    if name in NO_EXAMPLE:
        codes = codes - {"EX01"}
    if doc.tells("Returns") or doc.yields:
        codes = codes - {"RT01"}
    return [f"{code} {message}" for code, message in validate(doc.obj, Docstring)["errors"] if code in codes]


def example_gaps(doc):
    """Examples that doctest does not run."""
    lines = [line for line in doc.doc["Examples"] if line.lstrip().startswith((">>>", "..."))]
    if "Examples" in doc.section_titles and (not lines or any("+SKIP" in line for line in lines)):
        yield "the example does not run"


def error_gaps(doc):
    """A body that raises, or checks what came in, and a docstring without Raises."""
    bodies = [doc.function]
    if inspect.isclass(doc.obj):
        bodies = [] if is_protocol(doc.obj) else [vars(doc.obj).get(name) for name in ("__init__", "__post_init__")]
    if any(raises(body) for body in bodies) and not doc.tells("Raises"):
        yield "it raises, and has no Raises"


def raises(function):
    """Whether a function raises an error of its own, or calls what checks its input."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError):  # made by dataclass or Protocol, or not there
        return False
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    checks = any(re.match(r"_?check", getattr(call, "id", getattr(call, "attr", ""))) for call in calls)
    return checks or any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def array_gaps(doc):
    """Arrays that come in or go out without a shape or a dtype."""
    told = {name: (kind, text, name in OF_BATCHES) for name, (kind, text) in doc.doc_all_parameters.items()}
    told |= {f"returned {each.type}": (each.type, each.desc, False) for each in doc.returns}
    for name, (kind, description, must) in told.items():
        text = " ".join([kind, *description])
        if (must or ARRAY.search(kind)) and "callable" not in kind:
            if not SHAPE.search(text) and not re.search(r"\bof [NBCKTM]\b", text):
                yield f"{name}: of no told shape"
            if not DTYPE.search(text):
                yield f"{name}: of no told dtype"
    annotations = {} if inspect.isclass(doc.obj) else doc.function.__annotations__
    arrays = [name for name, kind in annotations.items() if ARRAY_TYPE.match(str(kind))]
    if arrays and not doc.tells_shape():
        yield f"no shape of {', '.join(arrays)} is told"


def word_gaps(name, doc):
    """Words that must stand in it and do not."""
    told = " ".join(each.raw_doc for each in (doc, *doc.linked))
    return [f"it does not tell {word!r}" for word in TELLS.get(name, ()) if word not in told]


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name):
    assert gaps(importlib.import_module(name)) == []


def whole(samples, *, logits=None):
    """Give what comes in.

    Parameters
    ----------
    samples : int
    logits : array of shape (B, C), floats, optional

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Where it is 0.

    Examples
    --------
    >>> whole(1)
    1
    """
    if not samples:
        raise ValueError("samples: 0, want at least 1")
    return samples


def made(function, docstring):
    """A module made on the spot, whose one public name is a copy of `function` with another docstring."""
    copy = types.FunctionType(function.__code__, globals(), "whole", function.__defaults__)
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, docstring
    return module_of(whole=copy)


def module_of(**public):
    """A module made on the spot, with these public names."""
    module = types.ModuleType("made")
    vars(module).update(public, __all__=list(public))
    return module


def test_what_is_whole_has_no_gap():
    assert gaps(made(whole, whole.__doc__)) == []


@pytest.mark.filterwarnings("ignore:Unknown section")  # numpydoc's own word for it
@pytest.mark.parametrize(
    ("there", "instead", "gap"),
    [
        ("Give what comes in.", "", "SS01"),
        ("Give what comes in.", "Give what comes\n    in.", "SS06"),
        ("Give what comes in.", "Give what comes in", "SS03"),
        ("    samples : int\n", "", "PR01 samples"),
        ("    samples : int\n", "    samples : int\n    seed : int\n", "PR02"),
        ("    samples : int\n", "    samples\n", "PR04"),
        ("Returns\n    -------\n    int\n", "", "RT01"),
        ("Raises\n    ------", "Errors\n    ------", "GL06"),
        ("Raises\n    ------\n    ValueError\n        Where it is 0.\n", "", "no Raises"),
        ("Examples\n    --------\n    >>> whole(1)\n    1\n", "", "EX01"),
        (">>> whole(1)\n    1", "whole(1) gives 1", "does not run"),
        (">>> whole(1)", ">>> whole(1)  # doctest: +SKIP", "does not run"),
        (" of shape (B, C)", "", "logits: of no told shape"),
        (", floats", "", "logits: of no told dtype"),
        ("    int\n\n", "    ndarray of int\n\n", "returned ndarray of int: of no told shape"),
        ("    int\n\n", "    ndarray of shape (B,)\n\n", "returned ndarray of shape (B,): of no told dtype"),
    ],
)
def test_gap_is_found(there, instead, gap):
    assert there in whole.__doc__
    found = gaps(made(whole, whole.__doc__.replace(there, instead)))
    assert any(gap in each for each in found), found


def test_no_docstring_is_found():
    assert gaps(made(whole, None)) == ["made.whole: GL08 no docstring"]


def test_missing_source_is_found(monkeypatch):
    monkeypatch.setitem(TELLS, "whole", ("Pleiss",))
    assert gaps(made(whole, whole.__doc__)) == ["made.whole: it does not tell 'Pleiss'"]


def test_partial_is_found():
    module = module_of(whole=functools.partial(whole, logits=None))
    assert gaps(module) == ["made.whole: help() is about partial"]


class Whole:
    """A class with a method that says too little.

    Examples
    --------
    >>> Whole().place(1)
    1
    """

    def place(self, rows):
        """Give the rows."""
        return rows

    def arrays(self) -> "np.ndarray[Any, Any]":
        """Give all of them."""
        return np.zeros(3)

    def find(self, rows):
        return rows


@dataclasses.dataclass
class Undocumented:
    sample: int


def test_gaps_of_methods_and_classes_are_found():
    assert gaps(module_of(Undocumented=Undocumented, Whole=Whole)) == [
        "made.Undocumented: GL08 no docstring",
        "made.Whole.place: PR01 rows not documented",
        "made.Whole.arrays: no shape of return is told",
        "made.Whole.find: GL08 no docstring",
    ]


def test_link_stands_for_what_is_told_elsewhere():
    linked = """Give what comes in; see `whole`.

    Examples
    --------
    >>> whole(1)
    1
    """
    assert gaps(made(whole, linked)) == []
    assert any("PR01" in each for each in gaps(made(whole, linked.replace("`whole`", "`nowhere`"))))


@pytest.mark.parametrize(("name", "shown_by"), NO_EXAMPLE.items())
def test_names_without_an_example_are_shown_by_another(name, shown_by):
    public = {**vars(aum_core), **vars(aum_core.detection), **vars(aum_core.posterior)}
    assert not Docstring(public[name]).tells("Examples"), "it has one, and needs no exception"
    assert Docstring(public[shown_by]).examples
