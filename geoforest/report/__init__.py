"""Pictures, pages and QGIS projects for people to look at."""
