import pytest

from imgcls_jax.training import recorder


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    """TensorFlow takes seconds to import; tests/test_launch.py looks at the files it writes."""

    class Writer:
        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    monkeypatch.setattr(recorder, "_summary_writer", lambda run: Writer())
