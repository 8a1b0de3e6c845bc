"""One thread and one seed for every test of the models."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
