"""Watching a network think: what each layer did at each step, as figures and as pictures."""
