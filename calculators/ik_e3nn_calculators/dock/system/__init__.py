"""Host, molecule and the region to search."""
