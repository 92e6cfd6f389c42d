"""``paraform fold``: a saved model as plain weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from paraform.cli.opened import unchanged, visible
from paraform.cli.output import AsJson, bytes_text, printable, show, show_json, stop, watched
from paraform.files.errors import FileError

if TYPE_CHECKING:
    from paraform.files import SavedFile, SavedTensor


def fold(
    file: Annotated[Path, typer.Argument(help="A file of paraform.save.")],
    out: Annotated[Path, typer.Argument(help="Where the plain weights go; what is there is replaced at the end.")],
    as_json: AsJson = False,
) -> None:
    """Compute the plain weights of a saved model, from its recipe alone, without the model's code.

    OUT is a safetensors file with the state dict of the plain architecture, which
    `model.load_state_dict(safetensors.torch.load_file(OUT))` takes. A tied tensor is in it under each of its names.
    One tensor is in memory at a time, so that files larger than memory can be folded. What would take far more
    room or time than a file of its size should is refused.

    Exit code: 0; 2 for a file that cannot be read, a value that cannot be computed or is not finite, or an OUT that
    cannot be written. Then nothing was written.

    Example: `paraform fold model.safetensors plain.safetensors`
    """
    from paraform.files import SavedFile, write_tensors

    if not out.parent.is_dir():
        stop(f"OUT is to be in a folder that exists, but '{printable(out.parent)}' is none; make it first.")
    if out.exists() and file.exists() and out.samefile(file):
        stop(f"OUT is to be another file than FILE, but '{printable(out)}' is the same; choose another name.")
    with SavedFile(file) as saved:
        saved.check_sum()
        specs = {tensor.name: (tensor.shape, tensor.dtype) for tensor in saved}
        computed = sum(tensor.is_parametrized for tensor in saved)
        # transformers and others read a file only if it says that it is PyTorch's
        write_tensors(out, specs, values(saved), {"format": "pt"})
    size = out.stat().st_size
    if as_json:
        names = {"file": str(file), "out": str(out)}
        show_json(names | {"bytes": size, "tensors": len(specs), "parametrized": computed})
    else:
        show(f"{visible(str(out))}: {bytes_text(size)}, {len(specs)} tensors, {computed} of them computed")


def values(saved: "SavedFile") -> Iterator[torch.Tensor]:
    """The values of the plain model's tensors in order; none is kept while the next is computed."""
    with unchanged(saved.path):
        for tensor in watched(saved, "tensors", len(saved.names)):
            yield _sound(tensor)


def _sound(tensor: "SavedTensor") -> torch.Tensor:
    value = tensor.value()
    if tensor.is_parametrized and not bool(torch.isfinite(value).all()):
        raise FileError(
            f"The value of '{printable(tensor.name)}' is not finite, so nothing was written; `paraform check` "
            f"finds all such tensors."
        )
    return value
