"""Open inputs as scenes, and read windows of them."""
