"""Attribution graphs of prompts, traced here or uploaded."""
