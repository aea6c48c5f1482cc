"""The options of a config: what there is, what each may be, and how a command line changes them."""
