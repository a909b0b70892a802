"""Model bundles, where they come from, and the runtimes that predict with them."""
