"""Maps of many scenes become one product: fused by tile, joined across tiles and UTM zones."""
