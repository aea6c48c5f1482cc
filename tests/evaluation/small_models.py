"""Options that make models small."""

SMALL = {
    "cnn": {"filters": (4, 8)},
    "lstm": {"units": 8},
    "attention": {"width": 8},
    "vgg": {"filters": (4, 4, 8, 8)},
    "fast_cnn": {"filters": (4, 4)},
    "resnet20": {"width": 4, "blocks": (1, 1, 1)},
    "se_resnet": {"width": 4, "blocks": (1, 1, 1)},
    "hybrid": {"backbones": ("resnet20", "vgg"), "se": True, "projection": 8},
}
