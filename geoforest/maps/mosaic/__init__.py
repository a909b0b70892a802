"""Maps of many scenes as one product: fused by tile, joined across tiles and UTM zones."""
