"""Serves a page to try a model on: drop, paste or take a photo, or draw.

The page shows the most likely classes with their calibrated confidence, the image as the model got
it, and Grad-CAM where the model has feature maps. It works without a network and listens to this
machine alone; with --host others reach it too, by an address with a token in it. Nothing that is
sent is kept. It needs two packages, which pip install -e ".[demo]" brings.

  imgcls demo runs/quickstart
  imgcls demo runs/own_photos --open
  imgcls demo efficientnet_lite0 --host 0.0.0.0 --port 8000
"""

import argparse

PACKAGES = ("starlette", "uvicorn")  # of the extra "demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="RUN",
        help="folder of a run, an ensemble or an export, or a name of pretrained weights "
        "(`imgcls weights list`)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="name or address to listen on; 0.0.0.0 for all of this machine (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="to listen on; 0 for a free one (default: %(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(options: argparse.Namespace) -> None:
    demo(
        options.classifier,
        host=options.host,
        port=options.port,
        opens_browser=options.open,
    )


def demo(
    classifier: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    opens_browser: bool = False,
) -> None:
    """Serves the page of a classifier until Ctrl-C.

    Raises RunError if nothing that classifies is there, and ConfigError if nothing can listen on
    the port or a package is missing.
    """
    from imgcls_jax import backend
    from imgcls_jax.errors import ConfigError, pip_install

    try:
        from imgcls_jax.demo import server
    except ModuleNotFoundError as error:
        package, _, _ = str(error.name).partition(".")
        if package not in PACKAGES:
            raise
        raise ConfigError(
            f"The page needs {package}, which is not installed: {pip_install('demo')} brings it."
        ) from error
    backend.configure()
    server.serve(classifier, host=host, port=port, opens_browser=opens_browser)
