"""Who changed what: one entry for every request that did."""
