"""The test of a judge: planted questions whose answers are known, asked before it is trusted."""
