"""One seed for the whole run, printed at its head; one torch thread a worker, so that two workers share two cores."""

import gc
import os
import random
import sys

import pytest
import torch
from hypothesis import settings

SEED = int(os.environ.get("PARAFORM_SEED", "0"))

settings.register_profile("short", deadline=None, print_blob=True, max_examples=25)
settings.register_profile("long", deadline=None, print_blob=True, max_examples=2000)
settings.load_profile(os.environ.get("PARAFORM_HYPOTHESIS", "short"))


def pytest_collection_finish() -> None:
    # What was collected stays to the end: no search of all objects, no collection of garbage need look through it.
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    return f"seed: {SEED} (run again with PARAFORM_SEED={SEED})"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def _compiled_anew() -> None:
    # torch.compile counts its recompilations of a function over the whole process, and refuses after a few.
    if "torch._dynamo" in sys.modules and torch._dynamo.utils.counters["frames"]:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
