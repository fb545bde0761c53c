"""Declaring events, finding them by type, and reading their data."""

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from hocket_schemas import catalog, gate
from hocket_schemas.envelope import Envelope
from hocket_schemas.errors import BadAttribute, ContractError, DataRefused, DuplicateType, UnknownType
from hocket_schemas.event import CATALOG, Catalog, Event


class Leg(Event):
    """No type of its own, so it is no entry of the catalog."""

    start: str
    end: str


class RouteDrawn(Event, type="route.drawn.v1", retention=timedelta(days=1)):
    legs: tuple[Leg, ...] = ()
    at: datetime | None = None
    score: float = 0


def load(path: Path, name: str) -> ModuleType:
    """Load a module from a file, as the host does with a service's folder."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.py"
    path.write_text(
        "from hocket_schemas import Event\n"
        "from test_catalog import MINE\n"
        "class Loaded(Event, type='module.loaded.v1', catalog=MINE): pass\n"
    )
    return path


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Catalog:
    module = ModuleType("test_catalog")
    catalog = module.MINE = Catalog()  # type: ignore[attr-defined] # a module made up for the test
    monkeypatch.setitem(sys.modules, "test_catalog", module)
    return catalog


def test_a_declared_type_is_known_and_found() -> None:
    assert catalog.find("route.drawn.v1") is RouteDrawn
    assert "route.drawn.v1" in catalog.known()
    assert "" not in catalog.known()


def test_an_undeclared_type_is_not_found() -> None:
    with pytest.raises(UnknownType, match=r"no event class is declared for type 'route\.lost\.v1'"):
        catalog.find("route.lost.v1")


@pytest.mark.parametrize("event_type", ["drawn", "Route.drawn.v1", "route.drawn", "route.drawn.v0", "route..drawn.v1"])
def test_a_type_has_a_noun_a_verb_and_a_version(event_type: str) -> None:
    with pytest.raises(ContractError, match=r"noun\.verbed\.v1"):

        class Wrong(Event, type=event_type):
            pass


def test_a_second_class_of_one_type_is_refused_and_the_first_stays() -> None:
    with pytest.raises(DuplicateType, match=r"route\.drawn\.v1.*RouteDrawn.*Another"):

        class Another(Event, type="route.drawn.v1"):
            pass

    assert catalog.find("route.drawn.v1") is RouteDrawn


def test_two_modules_cannot_claim_one_type(source: Path, mine: Catalog) -> None:
    load(source, "first")

    with pytest.raises(DuplicateType, match=r"first\.Loaded and again by second\.Loaded"):
        load(source, "second")


def test_a_module_that_is_loaded_again_takes_its_own_place(source: Path, mine: Catalog) -> None:
    load(source, "first")

    again = load(source, "first")

    assert mine.find("module.loaded.v1") is again.Loaded


def test_a_class_inside_a_function_gives_way_to_the_next() -> None:
    def declare() -> type[Event]:
        class Local(Event, type="local.declared.v1"):
            pass

        return Local

    class Local(Event, type="local.declared.v1"):
        pass

    assert CATALOG.find("local.declared.v1") is Local
    later = declare()
    assert CATALOG.find("local.declared.v1") is later


def test_a_catalog_of_ones_own_leaves_the_others_alone() -> None:
    own = Catalog()

    class Redrawn(Event, type="route.drawn.v1", catalog=own):
        pass

    assert own.find("route.drawn.v1") is Redrawn
    assert own.known() == ["route.drawn.v1"]
    assert catalog.find("route.drawn.v1") is RouteDrawn


def test_every_module_of_the_package_is_discovered() -> None:
    names = catalog.discover()

    assert "hocket_schemas.runtime" in names
    assert "hocket.saga.expired.v1" in catalog.known()


def test_an_event_travels_in_an_envelope_and_comes_back() -> None:
    event = RouteDrawn(legs=(Leg(start="ZRH", end="OSL"),), at=datetime(2026, 1, 31, tzinfo=UTC), score=0.5)

    envelope = gate.envelope_of(event, id="1", source="/here", partitionkey="k")
    arrived = gate.read(gate.write(envelope))

    assert (arrived.type, arrived.partitionkey) == ("route.drawn.v1", "k")
    assert gate.event_of(arrived) == event
    assert gate.event_of(arrived, RouteDrawn) == event


def test_an_event_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(UnknownType):
        gate.event_of(Envelope(id="1", source="/here", type="route.lost.v1", data={}))


def test_an_envelope_is_not_read_as_an_event_of_another_type() -> None:
    with pytest.raises(BadAttribute, match=r"route\.lost\.v1.*wants 'route\.drawn\.v1'"):
        gate.event_of(Envelope(id="1", source="/here", type="route.lost.v1", data={}), RouteDrawn)


def test_refused_data_is_told_field_by_field() -> None:
    data = {"legs": [{"start": 5}], "score": "high", "colour": "red"}

    with pytest.raises(DataRefused) as refused:
        gate.event_of(Envelope(id="1", source="/here", type="route.drawn.v1", data=data))

    said = str(refused.value)
    for part in ("legs.0.start: ", "(got 5)", "legs.0.end: Field required", "score: ", "(got 'high')", "colour: "):
        assert part in said


@pytest.mark.parametrize("data", [{"score": "x" * 10_000}, {"x" * 10_000: 1}, {"legs": [{}] * 10_000}, "x" * 10_000])
def test_refused_data_is_not_repeated_at_length(data: object) -> None:
    with pytest.raises(DataRefused) as refused:
        gate.event_of(Envelope(id="1", source="/here", type="route.drawn.v1", data=data))

    assert len(str(refused.value)) < 2000
    assert "x" * 81 not in str(refused.value)


def test_a_multitude_of_faults_is_counted() -> None:
    data = {"legs": [{"start": "ZRH"}] * 100}

    with pytest.raises(DataRefused, match=r"legs\.9\.end: Field required; and 90 more$"):
        gate.event_of(Envelope(id="1", source="/here", type="route.drawn.v1", data=data))


@pytest.mark.parametrize(("data", "said"), [(None, "there is none"), ([1], "it is [1]"), (b"{}", "it is b'{}'")])
def test_the_data_of_a_declared_event_is_an_object(data: object, said: str) -> None:
    with pytest.raises(DataRefused) as refused:
        gate.event_of(Envelope(id="1", source="/here", type="route.drawn.v1", data=data))

    assert said in str(refused.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_no_word_for_is_no_part_of_an_event(number: float) -> None:
    with pytest.raises(ValidationError):
        RouteDrawn(score=number)


def test_nan_that_hides_in_an_untyped_field_is_not_written_as_null() -> None:
    class Loose(Event, type="loose.stated.v1"):
        anything: object

    envelope = gate.envelope_of(Loose(anything=[float("nan")]), id="1", source="/here")

    with pytest.raises(DataRefused):
        gate.write(envelope)


def test_a_missing_retention_is_inherited_and_a_type_is_not() -> None:
    class Redrawn(RouteDrawn):
        pass

    assert (Redrawn.retention, Redrawn.event_type) == (timedelta(days=1), "")
