"""From labelled chips to a model bundle: check, train, choose the threshold, evaluate, sweep."""
