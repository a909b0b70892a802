"""Model bundles, the registries that hold them, and the runtimes that run them."""
