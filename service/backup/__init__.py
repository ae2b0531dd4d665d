"""Everything a deployment has, in one folder, and back again."""
