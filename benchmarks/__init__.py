"""The scripts behind results/: each measures something and writes what it found."""
