"""Queue consumers and the warm inference server."""

from monosemy.threads import wait_quietly

wait_quietly()  # before any module here imports torch
