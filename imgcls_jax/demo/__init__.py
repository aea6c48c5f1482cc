"""A page to try a model on: `imgcls demo RUN`. See docs/demo.md."""
