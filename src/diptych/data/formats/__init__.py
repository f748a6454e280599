"""Sources that `diptych data import` reads, one file each."""
