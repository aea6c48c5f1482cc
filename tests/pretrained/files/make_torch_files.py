"""Wrote the .pth files, with torch 2.13.0: python make_torch_files.py. Nothing else needs torch.

../test_torch_format.py has their content again, in NumPy.
"""

from collections import OrderedDict
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
DTYPES = (
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)


def tensors() -> OrderedDict:
    base = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        plain=base.reshape(2, 3, 4).clone(),
        transposed=base.clone().reshape(4, 6).T,
        strided=base.clone()[1::2],
        shared_first=base[:12].reshape(3, 4),
        shared_second=base[12:].reshape(4, 3).T,
        parameter=torch.nn.Parameter(torch.full((2, 2), 0.5)),
        scalar=torch.tensor(7, dtype=torch.int64),
        empty=torch.zeros(0, 3),
    )
    for name in DTYPES:
        state[name] = torch.tensor([0, 1, 2, 100]).to(getattr(torch, name))
    return state


def save(name: str, value, **options) -> None:
    torch.save(value, FOLDER / f"{name}.pth", **options)


if __name__ == "__main__":
    LEGACY = {"_use_new_zipfile_serialization": False}
    save("zip", tensors())
    save("zip_protocol4", tensors(), pickle_protocol=4)
    save("legacy", tensors(), **LEGACY)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    checkpoint = {
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "state_dict": model.state_dict(),
        "note": "x",
    }
    save("nested", checkpoint)
    save("nested_legacy", checkpoint, **LEGACY)
    save("whole_model", model)  # refused: more than weights
