"""One thread a worker: two workers on two cores get in each other's way otherwise."""

import torch

torch.set_num_threads(1)
