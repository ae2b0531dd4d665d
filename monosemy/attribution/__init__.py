"""Where values come from: attention as proven parts, and attributions that add up."""
