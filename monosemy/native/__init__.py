"""Kernels in C, compiled on first use with the system's compiler; everything works without."""
