"""Kernels in Triton for what surrounds the dense products on CUDA; everything works without.

``largest`` and ``rows`` import triton at once and are imported only where ``device.ready`` is true.
"""
