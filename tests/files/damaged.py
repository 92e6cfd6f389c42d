"""Damaged and hostile files, made from a good one."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributions import constraints

import paraform as pf
from paraform import parametrizations
from paraform.files import save

MUST = "must be refused"
MAY = "may be refused or used"


class Damaged(NamedTuple):
    name: str
    content: bytes
    rule: str = MUST


class Model(nn.Module):
    """One of each kind of thing that a file says something about."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(3, 2)
        self.turn = nn.Linear(4, 4)
        self.low = nn.Linear(6, 5, bias=False)
        self.kernel = nn.Conv1d(2, 4, 2)
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4)
        self.head.weight = self.embedding.weight
        self.ring = nn.Linear(5, 5, bias=False)
        self.norm = nn.BatchNorm1d(2)
        self.waves = nn.Parameter(torch.randn(2, 2, dtype=torch.complex128))


def constrained() -> Model:
    torch.manual_seed(0)
    model = Model()
    pf.register_parametrization(model.turn, "weight", pf.Orthogonal("cayley"))
    pf.register_parametrization(model.turn, "weight", pf.Ball(2.0))
    pf.register_parametrization(model.low, "weight", pf.LowRank(2))
    pf.register_parametrization(model.kernel, "weight", pf.Flatten(pf.Blocks(pf.Scaled(pf.Orthogonal()), 2)))
    pf.register_parametrization(model.head, "weight", pf.Masked(torch.ones(4, 3)))
    pf.register_parametrization(model.ring, "weight", pf.Circulant())
    pf.register_parametrization(model.plain, "bias", pf.from_distribution(constraints.interval(-1, 1)))
    parametrizations.spectral_norm(model.plain)
    pf.register_parametrization(model, "waves", pf.Skew())
    return model.eval()


class Parts(NamedTuple):
    """A file in its three layers."""

    header: dict[str, Any]
    recipe: dict[str, Any]
    data: bytes

    def bytes(self) -> bytes:
        metadata = {**self.header.get("__metadata__", {}), "paraform": json.dumps(self.recipe)}
        return packed(json.dumps({**self.header, "__metadata__": metadata}).encode(), self.data)


def packed(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def unpacked(content: bytes) -> Parts:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return Parts(header, json.loads(header["__metadata__"]["paraform"]), content[8 + length :])


def cut_or_flipped(content: bytes, choose: random.Random) -> Iterator[Damaged]:
    length = 8 + int.from_bytes(content[:8], "little")
    entries = [entry for key, entry in unpacked(content).header.items() if key != "__metadata__"]
    ends = sorted({length + entry["data_offsets"][1] for entry in entries})[:-1]
    near = [place for end in (length, *ends, len(content)) for place in (end - 1, end, end + 1)]
    places = [place for place in (*range(10), *near) if place < len(content)]
    for place in places:
        yield Damaged(f"cut at {place}", content[:place])
    for more in (b"\0", b"\0" * 4096, content):
        yield Damaged(f"{len(more)} bytes more", content + more)
    for bit in range(64):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        yield Damaged(f"bit {bit} of the length", bytes(broken))
    for _ in range(40):
        place, bit = choose.randrange(8, length), choose.randrange(8)
        broken = bytearray(content)
        broken[place] ^= 1 << bit
        yield Damaged(f"bit {bit} of byte {place} of the header", bytes(broken), MAY)
    for _ in range(25):
        place, bit = choose.randrange(length, len(content)), choose.randrange(8)
        broken = bytearray(content)
        broken[place] ^= 1 << bit
        yield Damaged(f"bit {bit} of byte {place} of the data", bytes(broken), MAY)
    for size in (1, 8, 9, 100, 5000):
        yield Damaged(f"{size} bytes of noise", choose.randbytes(size))
    for begin in (
        b"PK\x03\x04",
        b"\x80\x02}q\x00.",
        b"\x89HDF\r\n\x1a\n",
        b"<html>",
        b"{}",
        b"#!/bin/sh\n",
        b"\0" * 99,
    ):
        yield Damaged(f"begins like {begin[:6]!r}", begin + content)


def of_another_header(parts: Parts) -> Iterator[Damaged]:
    def with_entry(name: str, change: Callable[[dict[str, Any]], Any]) -> Damaged:
        header = copy.deepcopy(parts.header)
        change(header["turn.bias"])
        return Damaged(f"header: {name}", parts._replace(header=header).bytes())

    near: list[Any] = [[0, 1], [-16, 0], [10**9, 10**9 + 16], [0, 2**64], [16, 0]]
    for offsets in (*near, [0.0, 16.0], ["0", "16"], [0], {}, None, [True, 17]):
        yield with_entry(f"data_offsets {offsets}", lambda entry, offsets=offsets: entry.update(data_offsets=offsets))
    for other in ("head.bias", "turn.parametrizations.weight.original"):  # of as many bytes, and of more
        place = parts.header[other]["data_offsets"]
        yield with_entry(f"in the place of {other}", lambda entry, place=place: entry.update(data_offsets=place))
    for shape in ([5], [-4], [4.0], ["4"], [4, 10**9], [10**9] * 20, [1] * 1000, [True, 4], {}, None, 4, [2**63, 0]):
        yield with_entry(f"shape {str(shape)[:30]}", lambda entry, shape=shape: entry.update(shape=shape))
    for dtype in ("F64", "f32", "F128", "", None, 4, ["F32"], "os.system", "\x1b[2J"):
        yield with_entry(f"dtype {dtype!r}", lambda entry, dtype=dtype: entry.update(dtype=dtype))
    yield with_entry("no dtype", lambda entry: entry.pop("dtype"))
    yield with_entry("one more key", lambda entry: entry.update(more=1))
    for name in _NAMES:
        header = {name if key == "turn.bias" else key: entry for key, entry in parts.header.items()}
        yield Damaged(f"header: a tensor is called {name[:40]!r}", parts._replace(header=header).bytes())
    text = json.dumps({**parts.header, "__metadata__": {"paraform": json.dumps(parts.recipe)}})
    entry = json.dumps(parts.header["turn.bias"])
    for name, other in {
        "is a list": "[]",
        "is a string": '"x"',
        "is empty": "",
        "is an empty object": "{}",
        "is deep": '{"a":' * 10**5 + "1" + "}" * 10**5,
        "has deep lists": '{"a":' + "[" * 10**6 + "]" * 10**6 + "}",
        "has a name twice": text[:-1] + f', "turn.bias": {entry}}}',
        "has metadata twice": text[:-1] + ', "__metadata__": {}}',
        "has NaN": text[:-1] + ', "x": NaN}',
        "has a number of many digits": text[:-1] + ', "x": ' + "9" * 10**5 + "}",
        "goes on": text + " x",
        "is cut off": text[:-20],
        "begins with a space": " " + text,
        "has no metadata": json.dumps({key: value for key, value in parts.header.items() if key != "__metadata__"}),
        "has a list as metadata": json.dumps({**parts.header, "__metadata__": []}),
        "has numbers as metadata": json.dumps({**parts.header, "__metadata__": {"paraform": 1}}),
        "has an object as recipe": json.dumps({**parts.header, "__metadata__": {"paraform": parts.recipe}}),
        "has an empty recipe": json.dumps({**parts.header, "__metadata__": {"paraform": ""}}),
        "has a deep recipe": json.dumps({**parts.header, "__metadata__": {"paraform": "[" * 10**6}}),
        "has a recipe with NaN": json.dumps({**parts.header, "__metadata__": {"paraform": '{"format": NaN}'}}),
        "has a recipe with a key twice": json.dumps(
            {**parts.header, "__metadata__": {"paraform": json.dumps(parts.recipe)[:-1] + ', "format": 1}'}}
        ),
    }.items():
        yield Damaged(f"header: {name}", packed(other.encode(), parts.data))
    yield Damaged("header: is no UTF-8", packed(text.encode().replace(b"turn", b"\xff\xfe\xfd\xfc"), parts.data))
    yield Damaged("header: is UTF-16", packed(text.encode("utf-16"), parts.data))
    yield Damaged("header: is very large", packed(text.encode() + b" " * (33 * 2**20), parts.data))
    yield Damaged("header: says it is very large", (2**40).to_bytes(8, "little") + text.encode() + parts.data)


_NAMES = [
    *("../x", "/etc/passwd", "", ".", "a..b", "\0", "x" * 10**5, "\x1b[31m", "<script>", "[bold]", "__class__"),
    *("parametrizations.x", "turn.parametrizations.weight.", "turn.parametrizations.weight.original9"),
    *("turn.parametrizations.weight.0.base.x", "turn.parametrizations.weight.__class__"),
]
# Whatever stands in a recipe is replaced by one of these.
_ODD: list[Any] = [
    *(None, True, -1, 0, 2, 10**9, 10**30, 1.5, 1e300, "x", "", "\x1b[31m", "Orthogonal"),
    *(
        [],
        {},
        [[]],
        [10**9, 10**9],
        {"tensor": "x"},
        {"tensor": "../x"},
        {"name": "Skew", "arguments": {}},
        {"name": 1},
    ),
    *({"number": "inf"}, {"entries": {"a": []}}, {"set": "real", "arguments": {}}),
    {"numbers": [[1], 2], "dtype": "float32"},
]
_CODE = [
    *("os.system", "torch.nn.Linear", "__import__", "builtins.eval", "nn.Linear", "Linear", "Constraint", "Function"),
    *("subprocess.Popen", "_Orthogonal", "paraform.constraints.Orthogonal", "", "Orthogonal\0"),
]


def paths_in(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def changed(recipe: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    twin = copy.deepcopy(recipe)
    holder = twin
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return twin


def of_another_recipe(parts: Parts, choose: random.Random) -> Iterator[Damaged]:
    paths = list(paths_in(parts.recipe))
    for path in paths:
        where = ".".join(map(str, path))

        def delete(holder: Any, key: Any) -> None:
            del holder[key]

        def replace(holder: Any, key: Any) -> None:
            holder[key] = odd  # noqa: B023 (it is called at once)

        odd = choose.choice(_ODD)
        name, change = choose.choice([(f"without {where}", delete), (f"{odd!r} as {where}", replace)])
        other = changed(parts.recipe, path, change)
        yield Damaged(f"recipe: {name}", parts._replace(recipe=other).bytes(), MAY)


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def hostile(parts: Parts) -> Iterator[Damaged]:
    def chain(*steps: dict[str, Any], tensor: str = "turn.weight", **more: Any) -> bytes:
        recipe = copy.deepcopy(parts.recipe)
        recipe["parametrized"][tensor].update(chain=list(steps), **more)
        return parts._replace(recipe=recipe).bytes()

    for name in _CODE:
        yield Damaged(f"hostile: names {name!r}", chain(step(name)))
        yield Damaged(f"hostile: names {name!r} inside", chain(step("Flatten", constraint=step(name, x="id"))))
    deep: Any = step("Orthogonal")
    for depth in range(1, 60):
        deep = step("Transposed", constraint=deep)
        if depth in (17, 40):
            yield Damaged(f"hostile: {depth} combinators", chain(deep))
    yield Damaged("hostile: 1000 steps", chain(*[step("Ball")] * 1000))
    yield Damaged("hostile: a billion blocks", chain(step("BlockDiagonal", blocks=10**9)))
    yield Damaged("hostile: a billion blocks of nothing", chain(step("BlockDiagonal", blocks=10**9), shape=[0, 0]))
    yield Damaged("hostile: a billion views", chain(step("Blocks", constraint=step("Ball"), n=10**9)))
    yield Damaged("hostile: a rank of a billion", chain(step("PositiveSemidefinite", rank=10**9)))
    yield Damaged("hostile: a huge shape", chain(step("Orthogonal"), shape=[10**9, 10**9]))
    yield Damaged("hostile: a wide shape", chain(step("Orthogonal"), shape=[10**6, 4]))
    yield Damaged("hostile: a huge shape of a step", chain({**step("Circulant"), "shape": [10**5, 10**5]}, unsafe=True))
    yield Damaged("hostile: several raw tensors for the second", chain(step("Orthogonal"), step("LowRank", rank=1)))
    yield Damaged("hostile: unlearned", chain({**step("LowRank", rank=2), "learned": False}, tensor="low.weight"))
    yield Damaged("hostile: an argument is another tensor", chain(step("Masked", mask={"tensor": "../../original"})))
    yield Damaged("hostile: an argument too many", chain(step("Orthogonal", forward="os.system")))
    yield Damaged("hostile: an attribute as argument", chain(step("Orthogonal", __class__="x", self=1)))
    for set_name in ("os", "dependent", "Constraint", "integer_interval", "one_hot"):
        yield Damaged(
            f"hostile: the set {set_name}",
            chain(step("from_distribution", constraint={"set": set_name, "arguments": {}})),
        )
    yield Damaged(
        "hostile: a set in itself",
        chain(step("from_distribution", constraint={"set": "independent", "arguments": {"base_constraint": 1}})),
    )
    for ties in (
        {"head.weight": "head.weight"},
        {"head.weight": "embedding.weight", "embedding.weight": "head.weight"},
        {"head.weight": "nobody"},
        {"nobody": "embedding.weight"},
        {"turn.weight": "plain.weight"},
    ):
        recipe = {**parts.recipe, "ties": ties}
        yield Damaged(f"hostile: ties {ties}", parts._replace(recipe=recipe).bytes())
    for shared in ({"turn.bias": "plain.bias"}, {"x": "y"}, {"x": "turn.bias"}, {"turn.weight": "turn.weight"}):
        yield Damaged(f"hostile: shared {shared}", parts._replace(recipe={**parts.recipe, "shared": shared}).bytes())
    for pairs in (["turn.bias"], ["nobody"], [1]):
        yield Damaged(f"hostile: pairs {pairs}", parts._replace(recipe={**parts.recipe, "pairs": pairs}).bytes())
    yield Damaged("hostile: a later format", parts._replace(recipe={**parts.recipe, "format": 2}).bytes())
    yield Damaged(
        "hostile: names twice", parts._replace(recipe={**parts.recipe, "names": parts.recipe["names"] * 2}).bytes()
    )
    yield from _bombs()


def _bombs() -> Iterator[Damaged]:
    """Small files whose values would be large."""
    count = 100_000
    for name, raws, shape in (
        ("LowRank", {"original0": [count, 1], "original1": [1, count]}, [count, count]),
        ("Circulant", {"original": [count]}, [count, count]),
        ("Toeplitz", {"original": [2 * count - 1]}, [count, count]),
    ):
        header, place = {}, 0
        for key, size in raws.items():
            end = place + 4 * max(size[0], 1) * (size[1] if len(size) > 1 else 1)
            header[f"parametrizations.weight.{key}"] = {"dtype": "F32", "shape": size, "data_offsets": [place, end]}
            place = end
        arguments = {"rank": 1} if name == "LowRank" else {}
        recipe = {
            "format": 1,
            "version": "0",
            "names": ["weight"],
            "parametrized": {"weight": {"shape": shape, "dtype": "float32", "chain": [step(name, **arguments)]}},
            "ties": {},
            "shared": {},
            "pairs": [],
        }
        yield Damaged(f"hostile: a bomb of {name}", Parts(header, recipe, bytes(place)).bytes())


def corpus(seed: int) -> Iterator[Damaged]:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        save(constrained(), Path(folder, "model.safetensors"))
        content = Path(folder, "model.safetensors").read_bytes()
    yield Damaged("nothing is wrong with it", content, "must be used")
    parts = unpacked(content)
    yield Damaged("written by another writer", parts.bytes(), "must be used")
    yield from cut_or_flipped(content, choose)
    yield from of_another_header(parts)
    yield from of_another_recipe(parts, choose)
    yield from hostile(parts)
