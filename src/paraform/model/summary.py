"""All parametrized tensors of a model in one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from ..parametrize import type_before_parametrizations
from ..parametrize.chain import ParametrizationList
from ..parametrize.errors import title
from ..parametrize.lazy import pending_of
from ..parametrize.named import Named, named_chains
from ..parametrize.switching import originals_of
from .cost import POSITIONS, read_costs
from .measure import Measurement, as_json, behind, measure, reals, steps_of, steps_on
from .rebase_every import moves_of
from .table import Cells, Column, html_of, text_of


@dataclass(frozen=True)
class Row:
    """A parametrized tensor in the table of :func:`summary`. What cannot be known is None."""

    name: str
    """Its full name, as in the plain model's state dict."""
    ties: tuple[str, ...]
    """Its further names, where several modules share it."""
    layer: str
    """The class of its module, as before anything was parametrized."""
    chain: tuple[str, ...]
    """The parametrizations in their order, as they print; a step that is switched off says so."""
    shape: tuple[int, ...] | None
    dof: int | None
    """The true dimension of the set."""
    trained: int
    """How many real numbers stand behind it: see :class:`~paraform.model.measure.Measurement`."""
    residual: float | None
    """How far the value is from its set; nan where the value is not finite."""
    is_inside: bool | None
    """Whether that is no more than rounding."""
    condition: float | None
    """The largest singular value divided by the smallest."""
    cost: float | None
    """How long a read takes, divided by how long a call of its layer takes."""
    error: str | None
    """What was raised when the chain was evaluated or measured."""


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` gives: it prints as a table, also in a notebook."""

    rows: list[Row]
    totals: str
    """The line below the table: how many numbers train for how many dimensions."""
    notes: list[str]
    """What else there is to know, a sentence each."""

    def __str__(self) -> str:
        return text_of(_HEAD, [(_cells(row), _remark(row)) for row in self.rows], [self.totals, *self.notes])

    def _repr_html_(self) -> str:
        return html_of(_HEAD, [(_cells(row), _remark(row)) for row in self.rows], [self.totals, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """All of it as strict JSON data; what is not finite is null, as what is not known."""
        return {key: as_json(value) for key, value in asdict(self).items()}


def summary(model: Module, optimizer: Optimizer | None = None, sample: Any = None) -> Summary:
    """The parametrized tensors of ``model`` in a table: where they are, what they cost, how they are conditioned.

    The columns: the tensor by its name and shape; its chain of parametrizations; the true dimension of the set (degrees
    of freedom) against the numbers that are trained; the residual, how far the value is from its set (marked ``!``
    where that is more than rounding); the condition number; and the time of one read against that of one call of its
    layer, at the raw tensors as they are now.

    Chains of ``torch.nn.utils.parametrize`` are listed too. One that raises when it is evaluated has the error in its
    row. Nothing of the model changes, nor of the generators of random numbers. It takes some evaluations of each chain,
    and a singular value decomposition of each matrix.

    Args:
        model: any module. One that ``torch.compile`` gave is taken as what was compiled.
        optimizer: of the model; the notes then say whether :func:`~paraform.rebase_every` moves bases.
        sample: what to call the model with (a tensor, a tuple of arguments, or a dict of keyword arguments). Layers are
            then timed in forward passes of a copy that shares its parameters (of the model itself, if ``copy.deepcopy``
            refuses it); otherwise those of torch that multiply are called with 256 vectors.

    Returns:
        A :class:`Summary`, with ``rows``, ``totals``, ``notes`` and ``to_dict()``.

    Raises:
        TypeError: an argument is of another kind.
        Exception: whatever the model raises when it is called with ``sample``.

    >>> import torch
    >>> from paraform import Symmetric, register_parametrization
    >>> layer = register_parametrization(torch.nn.Linear(3, 3), "weight", Symmetric())
    >>> layer.weight = torch.eye(3)
    >>> table = summary(layer)
    >>> print(table)
    tensor  shape   chain        dof/trained  residual  cond.  read/layer
    ---------------------------------------------------------------------
    weight  (3, 3)  Symmetric()          6/9         0      1  ...
    <BLANKLINE>
    1 parametrized tensor: 9 numbers train for 6 dimensions.
    ...
    >>> table.rows[0].dof, table.rows[0].is_inside
    (6, True)
    """
    if not isinstance(model, Module):
        raise TypeError(f"Expected an nn.Module for summary, got {type(model).__name__}.")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"Expected a torch.optim.Optimizer for summary, got {type(optimizer).__name__}; a sample goes to sample=."
        )
    model = getattr(model, "_orig_mod", model)
    shared: dict[Module, list[Named]] = {}
    for named in named_chains(model, remove_duplicate=False):
        shared.setdefault(named.chain, []).append(named)
    measured = {chain: _measured(names[0]) for chain, names in shared.items()}
    fine = [names[0] for chain, names in shared.items() if isinstance(measured[chain], Measurement)]
    costs = read_costs(model, fine, sample if len(fine) == len(shared) else None)
    rows = [_row(*names, seen=measured[chain], cost=costs.get(names[0].name)) for chain, names in shared.items()]
    return Summary(rows, _totals(rows, shared), [*_notes(model, rows, optimizer)])


def _measured(named: Named) -> Measurement | str:
    """The measurement, or the error."""
    try:
        return measure(named.chain, named.name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _row(first: Named, *others: Named, seen: Measurement | str, cost: float | None) -> Row:
    known = None if isinstance(seen, str) else seen
    shape = known.shape if known else getattr(first.chain, "shape", None)
    return Row(
        name=first.name,
        ties=tuple(other.name for other in others),
        layer=type_before_parametrizations(first.module).__name__,
        chain=steps_of(first.chain),
        shape=None if shape is None else tuple(shape),
        dof=known.dof if known else None,
        trained=sum(map(reals, behind(first.chain))),
        residual=known.residual if known else None,
        is_inside=known.is_inside if known else None,
        condition=known.condition if known else None,
        cost=cost,
        error=seen if isinstance(seen, str) else None,
    )


_HEAD = (
    Column("tensor"),
    Column("shape"),
    Column("chain", wraps=True),
    Column("dof/trained", is_number=True),
    Column("residual", is_number=True),
    Column("cond.", is_number=True),
    Column("read/layer", is_number=True),
)


def _cells(row: Row) -> Cells:
    return (
        row.name,
        "?" if row.shape is None else str(row.shape),
        row.chain,
        f"{'?' if row.dof is None else row.dof}/{row.trained}",
        _short(row.residual) + (" !" if row.is_inside is False else ""),
        _short(row.condition),
        _short(row.cost),
    )


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.2g}" if number < 100 or number >= 1e5 else f"{number:.0f}"


def _remark(row: Row) -> str:
    return f"Evaluation failed: {row.error}" if row.error else ""


def _totals(rows: list[Row], chains: Iterable[Module]) -> str:
    """How many numbers train for how many dimensions. A tensor that stands behind several chains is counted once."""
    tensors = {id(tensor): reals(tensor) for chain in chains for tensor in behind(chain)}
    known = [row for row in rows if row.dof is not None]
    count = f"{len(rows)} parametrized tensor{'s' * (len(rows) != 1)}"
    if not rows:
        return f"{count}."
    text = f"{count}: {sum(tensors.values())} numbers train"
    dimensions = sum(row.dof or 0 for row in known)
    if len(known) == len(rows):
        return f"{text} for {dimensions} dimensions."
    if not known:
        return f"{text}; the dimension is not known."
    return (
        f"{text}. In the {len(known)} whose dimension is known, {sum(row.trained for row in known)} train for "
        f"{dimensions} dimensions."
    )


def _notes(model: Module, rows: list[Row], optimizer: Optimizer | None) -> Iterator[str]:
    chains = list(named_chains(model))
    outside = [row.name for row in rows if row.is_inside is False]
    if outside:
        yield f"! Outside of its set: {', '.join(outside)}."
    if any(row.cost is not None for row in rows):
        yield (
            "read/layer: the time of a read divided by that of a call of its layer (in the forward pass of the sample, "
            f"else with {POSITIONS} vectors), without gradient."
        )
    for row in rows:
        if row.ties:
            yield f"One tensor: {', '.join((row.name, *row.ties))}."
    yield from _names("Steps are switched off on", [each for each in chains if getattr(each.chain, "_off", ())])
    frozen = [named for named in chains if not any(raw.requires_grad for raw in originals_of(named.chain))]
    yield from _names("The raw tensors want no gradient of", frozen)
    theirs = [named for named in chains if not isinstance(named.chain, ParametrizationList)]
    yield from _names("Of torch.nn.utils.parametrize:", theirs)
    if optimizer is not None:
        yield from _moves(chains, optimizer)
    for path, module in model.named_modules():
        pending = pending_of(module)
        for name, steps in pending._modules.items() if pending is not None else ():
            waiting = ", ".join(map(title, steps.children())) if steps is not None else ""
            yield f"Waiting for the first forward pass: {waiting} on {f'{path}.{name}'.lstrip('.')}."


def _moves(chains: list[Named], optimizer: Optimizer) -> Iterator[str]:
    """Which bases move as the optimizer steps, and which it could move but does not."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    based = [named for named in chains if getattr(next(steps_on(named.chain), None), "has_base", False)]
    still = [named for named in based if any(id(raw) in trained for raw in originals_of(named.chain))]
    for hook in moves_of(optimizer):
        below = set(hook.model.modules())
        moved = [named for named in still if named.chain in below]
        still = [named for named in still if named.chain not in below]
        often = "after each step" if hook.steps == 1 else f"every {hook.steps} steps"
        yield from _names(f"Bases move to the values {often} of the {type(optimizer).__name__} (rebase_every):", moved)
    yield from _names("Bases that stay where they are (rebase_every would move them):", still)


def _names(what: str, chains: list[Named]) -> Iterator[str]:
    if chains:
        yield f"{what} {', '.join(named.name for named in chains)}."
