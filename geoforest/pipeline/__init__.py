"""One scene becomes one map."""
