"""Files of regions that others made, read in place: one file a format. None of them is ever unpickled."""
