"""The one way to change a host model's activations: steering, ablation, splicing and their uses."""
