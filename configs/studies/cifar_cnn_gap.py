"""Why report E's five-layer CNN overfits more than ours (row E1): dropout or none, and where its
parameters are.

    python launch.py --config configs/studies/cifar_cnn_gap.py

The report gives a gap of 17.8 points between training and test accuracy, with 316 K parameters and
dropout of 0.2. It does not give the widths: in the dense rows 95 % of the parameters are behind the
flattening, in the others 84 %. Three seeds each; 20 minutes on two CPU cores. Our figures:
results/cifar_cnn_gap/table.md.
"""

from ml_collections import ConfigDict

from configs import cifar_cnn
from configs.studies import base

DENSE = {"model.filters": (16, 32, 32), "model.hidden": 577}  # 316,117 parameters
REPORTED = {"accuracy": 67.5, "loss": 1.1, "gap": 17.8, "epochs": 10}
ROWS = {
    "1_e1": {},
    "2_no_dropout": {"model.dropout": 0.0},
    "3_dense": DENSE,
    "4_dense_no_dropout": DENSE | {"model.dropout": 0.0},
}


def get_config() -> ConfigDict:
    config = base.get_config()
    config.name = "cifar_cnn_gap"
    config.title = "Report E's five-layer CNN: the gap by dropout and widths"
    config.seeds = (0, 1, 2)
    for label, options in ROWS.items():
        row = cifar_cnn.get_config()
        row.update_from_flattened_dict(options)
        config.rows[label] = ConfigDict({"config": row, "reported": REPORTED})
    return config
