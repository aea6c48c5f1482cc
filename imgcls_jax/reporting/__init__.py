"""What a person sees of runs: figures, a page for each run, tables that compare runs."""
