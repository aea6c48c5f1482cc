"""Figures: a kind a module. Importing a module of this package imports matplotlib, which takes long.

So other modules import them inside the functions that draw. Figures are made without pyplot: there
is no figure that is current or has to be closed.
"""
