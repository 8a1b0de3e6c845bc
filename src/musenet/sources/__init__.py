"""Where logs come from: each source yields the four tables of `musenet.sources.tables`."""
