"""A sample drawn, labelled and turned into hectares with an interval."""
