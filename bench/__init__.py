"""The benchmark of the design page's numbers."""
