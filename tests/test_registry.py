import dataclasses
import importlib
from typing import Protocol, runtime_checkable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import Config, UserError, plugins
from cifar_jax.checks import check_range
from cifar_jax.registry import Registry, canonicalize, resolve, resolve_all, signatures


@dataclasses.dataclass(frozen=True)
class Shift:
    by: int
    factor: float = 1.0
    name: str = ""
    wrap: bool = False
    after: object = None

    def __post_init__(self):
        check_range("by", self.by, at_least=0, below=10)


SHIFTS = Registry(Shift | None, {"shift": Shift, "none": lambda: None})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shift(3)", Shift(3)),
        ("shift(by=3, factor=2)", Shift(3, 2.0)),
        (" shift( 3,wrap = True ) ", Shift(3, wrap=True)),
        (r"shift(3, name='conv\d/.*')", Shift(3, name=r"conv\d/.*")),
        ("shift(1, after=shift(2))", Shift(1, after=Shift(2))),
        ("shift(1, 8/255)", Shift(1, 8 / 255)),
        ("shift(1, -1/4)", Shift(1, -0.25)),
        ("none", None),
        ("none()", None),
    ],
)
def test_a_choice_is_a_name_or_a_call(text, expected):
    assert resolve(text, SHIFTS, "flag") == expected
    assert resolve(canonicalize(text, "flag"), SHIFTS, "flag") == expected


def test_a_list_keeps_its_order():
    assert resolve_all("shift(2), none, shift(1)", SHIFTS, "flag") == (
        Shift(2),
        None,
        Shift(1),
    )
    assert resolve_all("", SHIFTS, "flag") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shft", "--flag=shft: shft is unknown; choose from shift, none"),
        ("shift(", "is not a list of names"),
        ("3", "is not a list of names"),
        ("'shift'", "is not a list of names"),
        ("shift(3) for x in y", "is not a list of names"),
        ("shift.shift(3)", "is not a list of names"),
        ("shift(3)] + [none", "is not a list of names"),
        ("a\0b", "is not a list of names"),
        ("shift", "missing a required argument: 'by'"),
        ("shift(3, on=1)", "unexpected keyword argument 'on'"),
        ("shift(x)", "x is unknown"),
        ("shift(3.5)", "by=3.5 must be an integer"),
        ("shift(True)", "by=True must be an integer"),
        ("shift(3, 'x')", "factor='x' must be a number"),
        ("shift(3, 1e999)", "factor=inf is not a finite number"),
        ("shift(3, wrap=1)", "wrap=1 must be True or False"),
        ("shift(3, name=4)", "name=4 must be text"),
        ("shift(-1)", "by=-1 must be at least 0"),
        ("shift(10)", "by=10 must be below 10"),
        ("shift(1 + 1)", "shift cannot be used"),
        ("shift(1, 1/0)", "shift cannot be used: division by zero"),
        ("shift(1, 'a'/2)", "shift cannot be used: unsupported operand"),
        ("shift(4/2)", "by=2.0 must be an integer"),
        ("shift(__import__('os').system('true'))", "__import__|cannot be used"),
        ("shift(**{'by': 3})", "cannot be used"),
        ("shift(*[3])", "cannot be used"),
    ],
)
def test_invalid_choices_are_named_on_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve(text, SHIFTS, "flag")
    assert "\n" not in str(caught.value)


def test_one_choice_is_not_a_list():
    for text in ("", "none, none"):
        with pytest.raises(UserError, match="must be exactly one of shift, none"):
            resolve(text, SHIFTS, "flag")


def test_signatures_show_options_and_defaults():
    expected = "shift(by, factor=1.0, name='', wrap=False, after=None), none"
    assert signatures(SHIFTS) == expected


@given(st.text())
def test_any_text_is_a_choice_or_a_user_error(text):
    try:
        resolve_all(text, SHIFTS, "flag")
    except UserError as error:
        assert error.exit_code == 2  # noqa: PT017


class Named(Protocol):
    name: str

    def __call__(self) -> int: ...

    def _own(self) -> int: ...


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            lambda: 3,
            "an object of int, which is not a test_registry.Named: it lacks name",
        ),
        (
            Shift,
            r"object of Shift, which is not a test_registry.Named: it lacks __call__$",
        ),
    ],
)
def test_what_is_of_another_kind_is_refused(choice, message):
    registry = Registry(runtime_checkable(Named), {"made": choice})
    text = "made(1)" if choice is Shift else "made"
    with pytest.raises(UserError, match=message):
        resolve(text, registry, "flag")


def test_every_registry_makes_what_it_says():
    for kind in plugins.KINDS:
        module, attribute = plugins.KINDS[kind].split(":")
        registry = getattr(importlib.import_module(module), attribute)
        if kind in ("dataset", "recipe"):
            assert not isinstance(registry, Registry)
        else:
            assert isinstance(registry.kind, type)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 10**30])
@pytest.mark.parametrize(
    "text",
    [
        'optimizer="lookahead(sgd, period={})"',
        'optimizer="accumulate(sgd, every={})"',
        'optimizer="muon(steps={})"',
        'loss="label_noise(cross_entropy, 0.1, seed={})"',
        'model="resnet18(depths=(2, {}, 2, 2))"',
        'distortions="cutout({})"',
        'views="shifted_mirrors({})"',
        'eval_metrics="ece({})"',
    ],
)
def test_integers_have_no_more_bits_than_devices_compute_with(text, value):
    name, _, call = text.partition("=")
    with pytest.raises(UserError, match=f"{value}"):
        Config(**{name: call.strip('"').format(value)})


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("optimizer", "muon(steps=99999999)"),
        ("views", "shifted_mirrors(shift=1000000)"),
        ("eval_metrics", "ece(bins=2147483647)"),
    ],
)
def test_numbers_that_no_machine_could_compute_are_refused(flag, text):
    with pytest.raises(UserError, match="must be at most"):
        Config(**{flag: text})
