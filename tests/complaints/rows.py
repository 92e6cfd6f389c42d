"""The list of complaints as data: what each row is about, where its threads are, and what of it is not met."""

from __future__ import annotations

import re
from dataclasses import dataclass

TITLES = {
    1: "Initializing a parametrized weight does nothing",
    2: "Under `cached()` a copy computes with another module's weight",
    3: "The names of weight_norm's tensors changed",
    4: "`cached()` keeps values that are out of date",
    5: "Overriding a parametrized weight gives the override no gradient",
    6: "Averaging a model averages what must not be averaged",
    7: "Changing a copy destroys the live model",
    8: "A cache for each forward pass stays on for ever",
    9: "Registration throws the trained weight away",
    10: "Removal makes a parameter a buffer",
    11: "The optimizer does not know the new tensors, or mixes them up",
    12: "Plain checkpoints and parametrized models do not fit",
    13: "Orthogonal convolutions constrain slices, not filters",
    14: "Tied weights come apart",
    15: "Assignment is not checked and not copied",
    16: "One step of a chain cannot be taken off alone",
    17: "Looking at a weight changes it",
    18: "weight_norm has edge cases",
    19: "Models cannot be saved whole",
    20: "Checkpoints and functions from before the deprecation fail",
    21: "Errors inside a parametrization are hidden",
    22: "Every layer has a class of its own",
    23: "Half precision fails",
    24: "Start on the meta device fails",
    25: "Everything is recomputed at every read",
    26: "A tall orthogonal weight costs n x n",
    27: "Switching on and off recompiles at every step",
    28: "Sharding is undocumented",
    29: "Tools want a plain module",
    30: "Copies keep modules in memory",
    31: "TorchScript cannot compile a parametrized model",
    32: "Recurrent layers keep old weights",
    33: "`layer.weight.grad` is None",
    34: "Lazy modules cannot be parametrized",
    35: "Functions are no parametrizations",
    36: "Export and compilation are slow",
    37: "torch.compile refuses parametrized models",
    38: "Nested, frozen and repeated use",
    39: "Copies and optimizers of constrained parameters",
    40: "Tensor subclasses are lost, or unwrapped twice",
    41: "AdamW makes an orthogonal weight zero",
}
"""The rows, worst first; 41 was found last."""


@dataclass(frozen=True)
class Unmet:
    """What a row asks for and does not get, or gets another way."""

    row: int
    what: str
    why: str
    way_round: str


UNMET = [
    Unmet(
        1,
        "A write in place to a value that was read inside a forward pass, in compiled code or under a transform is "
        "lost; so is one to a value that is a tensor subclass, such as a `DTensor`",
        "There, reads are many and have to cost nothing extra, and a trace would see the difference.",
        "assign: `layer.weight = value`; or write outside of the forward pass",
    ),
    Unmet(
        3,
        "`state_dict()` has torch's keys for a parametrized tensor, so a loader that compares keys by itself, and does "
        "not call `load_state_dict`, finds that they differ from plain ones",
        "Checkpoints go both ways between the two engines, and do so by their keys.",
        "`load_state_dict` reads plain and old names, with `strict=False` too; `plain_state_dict(model)` has plain "
        "keys, to compare with or to save",
    ),
    Unmet(
        12,
        "A state dict of torch's `orthogonal` does not load into the constraint `Orthogonal()` where the weight is not "
        "square, or where the map is `householder`",
        "The same keys mean something else there, and the state dict does not say which map it belongs to.",
        "load it into a layer of `paraform.parametrizations.orthogonal`, and that one's `plain_state_dict` into yours",
    ),
    Unmet(
        25,
        "`layer.weight.shape` computes the weight",
        "The attribute is read before anybody can know that only its shape is wanted.",
        "`layer.parametrizations.weight.shape` computes nothing; under `cached()` the value is computed once",
    ),
    Unmet(
        26,
        "`paraform.parametrizations.orthogonal` holds an n x n base for an n x k weight",
        "It loads and writes torch's checkpoints, which have that base.",
        "`Orthogonal()`, whose base has the weight's own shape; or `use_trivialization=False`",
    ),
    Unmet(
        29,
        "`type(layer) is nn.Linear` is false, so that tools which compare types refuse the layer, as "
        "`torch.ao.quantization.quantize_dynamic` does; `torch.nn.utils.prune` refuses the weight",
        "A value that is computed at each read needs a property, a property needs a class, and that of `nn.Linear` is "
        "everybody's.",
        "`isinstance(layer, nn.Linear)` and `type_before_parametrizations(layer)` in code of one's own; for a tool, "
        "`remove_parametrizations` on a `copy.deepcopy` of the model, which leaves the live model alone",
    ),
    Unmet(
        31,
        "`torch.jit.script` does not compile a parametrized model",
        "TorchScript compiles the source of a module, and cannot follow a property that runs other modules. It is "
        "deprecated. The refusal comes when it compiles, not at the first call.",
        "`torch.jit.trace`, `torch.export`, or `torch.jit.script` on a copy without parametrizations",
    ),
    Unmet(
        32,
        "On a GPU cuDNN warns that the weights of a recurrent layer are no single chunk of memory",
        "They are computed anew for each forward pass, so there is no chunk to keep. Only speed depends on it.",
        "for inference, `remove_parametrizations`, then `flatten_parameters()`",
    ),
]

REPOSITORIES = {
    "FAcodec": "Plachtaa/FAcodec",
    "DeepSpeed": "deepspeedai/DeepSpeed",
    "HuBERT-ECG": "Edoar-do/HuBERT-ECG",
    "adapters": "adapter-hub/adapters",
    "ao": "pytorch/ao",
    "audioseal": "facebookresearch/audioseal",
    "bitsandbytes": "bitsandbytes-foundation/bitsandbytes",
    "darts": "unit8co/darts",
    "deel-lip": "deel-ai/deel-lip",
    "deel-torchlip": "deel-ai/deel-torchlip",
    "expRNN": "lezcano/expRNN",
    "fastai": "fastai/fastai",
    "geoopt": "geoopt/geoopt",
    "geotorch": "lezcano/geotorch",
    "hifi-gan": "jik876/hifi-gan",
    "kokoro": "hexgrad/kokoro",
    "mase": "DeepWok/mase",
    "minLoRA": "changjonathanc/minLoRA",
    "mlflow": "mlflow/mlflow",
    "peft": "huggingface/peft",
    "pyreft": "stanfordnlp/pyreft",
    "pytorch": "pytorch/pytorch",
    "ray": "ray-project/ray",
    "seed-vc": "Plachtaa/seed-vc",
    "speechbrain": "speechbrain/speechbrain",
    "torch-householder": "toshas/torch-householder",
    "torchtitan": "pytorch/torchtitan",
    "transformers": "huggingface/transformers",
    "tutorials": "pytorch/tutorials",
}
"""Where on GitHub a project is that threads name by its short name. Those that are not here get no link."""


def link(thread: str) -> str:
    """A thread such as ``pytorch PR#68969`` as a link in Markdown.

    >>> link("pytorch#72041")
    '[pytorch#72041](https://github.com/pytorch/pytorch/issues/72041)'
    >>> link("somebody's talk")
    "somebody's talk"
    """
    parts = re.fullmatch(r"(\S+?)( PR)?#(\d+)", thread)
    if parts is None:
        return thread
    project, is_pull_request, number = parts.groups()
    repository = project if "/" in project else REPOSITORIES.get(project)
    if repository is None:
        return thread
    return f"[{thread}](https://github.com/{repository}/{'pull' if is_pull_request else 'issues'}/{number})"
