"""Attribution graphs: a prompt, with features of transcoders in place of the host's MLPs, as one
affine function whose every value is the sum of its edges."""
