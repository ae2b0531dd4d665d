"""Features that wait for a person, one by one."""
